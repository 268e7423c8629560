"""No dead weights in training, and no auxiliary weights in what is served."""

import keras
import numpy as np
import pytest

from keras_exfuse import GCN, ExFuse
from tests.drawing import draw_by_path
from tests.helpers import as_numpy, random_batch, tiny_backbone

ALL_PARTS = {"semantic_supervision": True, "embedding_normalization": True}
MODELS = {
    "all parts": ALL_PARTS,
    "all parts, read literally": {
        **ALL_PARTS,
        "refinement": "before",
        "adjacent_channels": "all",
        "expansion": "global_convolution",
    },
    "refined in groups": {"refinement": "before_grouped"},
}


def changes_of_a_step(model, steps=1, optimizer=None):
    """By path, how far each trained weight moves in some steps, of plain descent by default."""
    model.compile(optimizer=optimizer or keras.optimizers.SGD(1.0), metrics=[])
    before = {weight.path: as_numpy(weight).copy() for weight in model.trainable_weights}
    images, masks = random_batch(batch=2, height=64, width=64, num_classes=3)
    for _ in range(steps):
        model.train_on_batch(images, masks)
    return {weight.path: np.abs(as_numpy(weight) - before[weight.path]) for weight in model.trainable_weights}


@pytest.mark.parametrize("variant", MODELS.values(), ids=MODELS)
def test_every_trainable_weight_gets_a_gradient(variant):
    changes = changes_of_a_step(draw_by_path(ExFuse(3, backbone=tiny_backbone(), **variant)))
    assert [path for path, change in changes.items() if not change.any()] == []
    assert all(np.isfinite(change).all() for change in changes.values())


def test_every_trainable_weight_of_the_baseline_gets_a_gradient():
    changes = changes_of_a_step(draw_by_path(GCN(3, backbone=tiny_backbone())))
    assert [path for path, change in changes.items() if not change.any()] == []


def test_the_default_start_leaves_no_weight_behind():
    # Refinement starts as the identity: its first convolution waits for the second one's first step.
    model = ExFuse(3, backbone=tiny_backbone(), semantic_supervision=True)
    # Scores start small, and gradients behind two small factors drown in the rounding of plain descent. Adam
    # moves a weight by about its learning rate, however small the gradient, unless it is zero.
    changes = changes_of_a_step(model, steps=2, optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-16))
    assert [path for path, change in changes.items() if not change.any()] == []


def test_heads_are_no_part_of_the_graph_of_logits():
    model = ExFuse(3, backbone=tiny_backbone(), semantic_supervision=True)
    served = keras.Model(model.inputs, model.outputs)
    heads = {weight.path for head in model.semantic_supervision_heads for weight in head.weights}
    assert len(heads) == 4 * 8
    assert heads <= {weight.path for weight in model.weights}
    assert {weight.path for weight in served.weights} == {weight.path for weight in model.weights} - heads


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the other backends export through TensorFlow"
)
def test_heads_are_not_in_the_exported_savedmodel(tmp_path):
    import tensorflow as tf

    from keras_exfuse.export import export_savedmodel

    model = ExFuse(3, backbone=tiny_backbone(), semantic_supervision=True)
    # Fused, the numbers of weights would differ for other reasons.
    export_savedmodel(model, tmp_path / "1", fuse=False)
    stored = tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables"))
    number = sum(int(np.prod(shape)) for name, shape in stored if name.endswith("VARIABLE_VALUE"))
    heads = sum(head.count_params() for head in model.semantic_supervision_heads)
    assert heads > 0
    assert number == model.count_params() - heads
    loaded = tf.saved_model.load(str(tmp_path / "1"))  # Its variables live as long as it does.
    graph = loaded.signatures["serving_default"]
    assert not [variable.name for variable in graph.variables if "supervision" in variable.name]
