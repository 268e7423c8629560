"""Training starts safely: Adam's first steps at its usual rate do not throw the loss up."""

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse
from tests.helpers import tiny_backbone

# The initial weights and the batches are numpy's: every backend takes the same steps.
pytestmark = pytest.mark.backend_independent

STEPS, STEPS_PER_LABEL = 10, 3


def wide_backbone():
    """512 channels at the top, of about 4 where a ReLU lets them through: as strong as ResNet's strongest."""
    tiny = tiny_backbone((32, 32, 32, 512))
    maps = []
    for each in tiny.outputs:
        gamma = keras.initializers.Constant(4.0)
        x = keras.layers.BatchNormalization(epsilon=1e-6, gamma_initializer=gamma)(each)
        maps.append(keras.layers.ReLU()(x))
    return keras.Model(tiny.inputs, maps)


def growth_of_loss(backbone, **options):
    """The largest loss of ten steps of Adam, as a multiple of the first.

    The images are noise, and each mask holds one label, which changes every third step. What the steps before have
    learned is wrong then: the larger the logits have become, the larger is the loss.
    """
    keras.utils.set_random_seed(0)
    model = ExFuse(5, backbone=backbone(), **options)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), metrics=[], run_eagerly=True)
    generator, found = np.random.default_rng(0), []
    for step in range(STEPS):
        images = generator.integers(0, 256, (1, 64, 64, 3), dtype="uint8")
        masks = np.full((1, 64, 64), step // STEPS_PER_LABEL, "uint8")
        model.reset_metrics()  # Else the loss is the mean over all steps so far.
        found.append(float(model.train_on_batch(images, masks)))
    assert np.isfinite(found).all()
    return max(found) / found[0]


# Measured on the three backends: 1.1, and 2.2 to 2.4.
@pytest.mark.parametrize(("backbone", "most"), [(tiny_backbone, 2), (wide_backbone, 3)])
def test_the_first_steps_are_calm(backbone, most):
    assert growth_of_loss(backbone) < most


def test_on_a_wide_backbone_they_are_calm_because_of_the_scaling():
    # Measured on the three backends: 8.1 to 8.6.
    assert growth_of_loss(wide_backbone, embedding_scaled=False) > 6
