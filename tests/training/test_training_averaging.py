"""The mean of trained models."""

import keras
import numpy as np
import pytest

from keras_exfuse import GCN
from keras_exfuse.training import average_models
from tests.helpers import as_numpy, tiny_backbone


def make(classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    model = GCN(classes, backbone=tiny_backbone(), kernel_size=3)
    generator = np.random.default_rng(seed)  # Biases and statistics, too.
    model.set_weights([generator.normal(size=weight.shape) for weight in model.weights])
    return model


def test_weights_are_averaged_and_the_models_stay():
    models = [make(seed=seed) for seed in range(3)]
    before = [[as_numpy(weight).copy() for weight in model.weights] for model in models]
    mean = average_models(models)
    assert mean not in models and mean.output_shape == models[0].output_shape
    for weight, *values in zip(mean.weights, *before, strict=True):
        np.testing.assert_allclose(as_numpy(weight), np.mean(np.stack(values), axis=0), atol=1e-6)
    for model, weights in zip(models, before, strict=True):
        for weight, value in zip(model.weights, weights, strict=True):
            np.testing.assert_array_equal(as_numpy(weight), value)
    assert not hasattr(mean, "class_names")


@pytest.mark.backend_independent
def test_what_cannot_be_averaged(tmp_path):
    one = make()
    for few in ([one], [], "model.keras"):
        with pytest.raises(ValueError, match="at least two models"):
            average_models(few)
    with pytest.raises(ValueError, match="Only models of one architecture and the same classes"):
        average_models([one, make(classes=4)])
    other = make(seed=1)
    one.class_names, other.class_names = ("a", "b", "c"), ("a", "c", "b")
    with pytest.raises(ValueError, match=r"same classes.*\('a', 'b', 'c'\), those of .* \('a', 'c', 'b'\)"):
        average_models([one, other])
    with pytest.raises(ValueError, match="There is no model at"):
        average_models([one, tmp_path / "nowhere.keras"])
