"""Weights for a model with other classes: what fits is copied, what does not is listed."""

import numpy as np
import pytest

import keras_exfuse
from keras_exfuse.backbones import build_resnet
from tests.helpers import as_numpy, draw_weights, tiny_backbone


def make(num_classes, **arguments):
    return keras_exfuse.ExFuse(num_classes, backbone=tiny_backbone(), kernel_size=3, **arguments)


def test_another_number_of_classes(tmp_path):
    source = draw_weights(make(5))
    path = tmp_path / "five.keras"
    source.save(path)
    model = make(3)
    before = [np.array(weight) for weight in model.get_weights()]
    skipped = keras_exfuse.transfer_weights(path, model)
    assert len(skipped) == sum(a.shape != b.shape for a, b in zip(source.weights, model.weights, strict=True))
    assert any(line.startswith("adjacent_deconvolution_1/kernel: (4, 4, 45, 5) there") for line in skipped)
    for name in ("tiny_backbone", "semantic_embedding"):
        assert not any(line.startswith(name) for line in skipped), skipped
    for old, mine, theirs in zip(before, model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs if theirs.shape == mine.shape else old)


def test_the_same_classes_copy_everything():
    source, model = draw_weights(make(4)), make(4)
    assert keras_exfuse.transfer_weights(source, model) == []
    for mine, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_another_architecture_is_refused():
    model = make(3)
    before = model.get_weights()
    with pytest.raises(ValueError, match="different architectures.*same backbone and switches"):
        keras_exfuse.transfer_weights(make(3, semantic_embedding=False), model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_backbone_of_the_same_names_is_refused():
    """ResNet-50's convolutions and ResNeXt-50's have the same names and other shapes."""

    def small(cardinality):
        return build_resnet("small", (1, 1, 1, 1), cardinality=cardinality, width_per_group=64 // cardinality)

    source, model = (
        keras_exfuse.GCN(classes, backbone=small(cardinality), kernel_size=3)
        for classes, cardinality in ((3, 1), (5, 32))
    )
    before = model.get_weights()
    with pytest.raises(
        ValueError, match="different architectures.*conv2/kernel is .* there and .* here, not for"
    ):
        keras_exfuse.transfer_weights(source, model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_go_by_path_and_not_by_order():
    source, model = draw_weights(make(3)), make(3)
    model._layers.reverse()
    assert [each.path for each in model.weights] != [each.path for each in source.weights]
    keras_exfuse.transfer_weights(source, model)
    theirs = {weight.path: weight for weight in source.weights}
    for weight in model.weights:
        np.testing.assert_array_equal(as_numpy(weight), as_numpy(theirs[weight.path]))
