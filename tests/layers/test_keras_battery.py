"""Every layer in Keras's own battery: building, calling, serialization, training, mixed precision.

It lives in `keras.src`, which may change with any version of Keras; here it is that of the tests' constraints.
"""

import keras
import numpy as np
import pytest

from keras_exfuse import _kernels, layers
from keras_exfuse._kernels.winograd import WinogradConv2D
from keras_exfuse.backbones import ImageNormalization
from keras_exfuse.backbones.efficientnet_lite import SamePadding
from keras_exfuse.inference.fusion.adjacency import BorderBias
from keras_exfuse.layers.semantic_supervision import SemanticSupervisionFeatures

testing = pytest.importorskip("keras.src.testing", reason="this version of Keras has no battery")

# Class: arguments, input shape or shapes, output shape, trained weights, other weights.
LAYERS = {
    layers.BilinearResize: ({}, ((2, 3, 4, 2), (2, 6, 8, 1)), (2, 6, 8, 2), 0, 0),
    layers.BoundaryRefinement: ({"groups": 3, "init": "random"}, (2, 4, 4, 6), (2, 4, 4, 6), 4, 0),
    layers.ChannelResolutionEmbedding: ({"filters": 3}, (2, 4, 5, 6), (2, 8, 10, 3), 2, 0),
    layers.CropLike: ({}, ((2, 6, 8, 2), (2, 3, 4, 1)), (2, 3, 4, 2), 0, 0),
    layers.Deconvolution: (
        {"filters": 3, "kernel_size": 6, "crop": False},
        (2, 4, 4, 6),
        (2, 12, 12, 3),
        2,
        0,
    ),
    layers.DenselyAdjacentDeconvolution: ({"num_classes": 3}, (2, 4, 5, 6), (2, 8, 10, 3), 2, 0),
    layers.DenselyAdjacentPrediction: (
        {"num_classes": 2, "padding": "valid"},
        (2, 4, 5, 18),
        (2, 2, 3, 2),
        0,
        0,
    ),
    layers.GlobalConvolution: ({"filters": 3, "kernel_size": 5}, (2, 4, 5, 6), (2, 4, 5, 3), 8, 0),
    layers.PadToMultiple: ({"multiple": 5, "color": (1, 2)}, (2, 4, 6, 2), (2, 5, 10, 2), 0, 0),
    layers.SemanticEmbeddingBranch: (
        {"normalization": True, "init": "random"},
        ((2, 6, 8, 2), (2, 3, 4, 5)),
        (2, 6, 8, 2),
        3,
        2,
    ),
    layers.SemanticSupervisionHead: (
        {"num_classes": 3, "filters": 4, "units": 5},
        (2, 4, 4, 6),
        (2, 3),
        8,
        0,
    ),
    SemanticSupervisionFeatures: ({"filters": 4}, (2, 4, 4, 6), (2, 4, 4, 4), 4, 0),
    SamePadding: ({"kernel_size": 3}, (2, 4, 5, 3), (2, 5, 7, 3), 0, 0),
    ImageNormalization: (
        {"mean": (1, 2, 3), "standard_deviation": (1, 2, 4)},
        (2, 4, 5, 3),
        (2, 4, 5, 3),
        0,
        0,
    ),
    BorderBias: ({"kernel_size": 3}, (2, 4, 5, 6), (2, 4, 5, 6), 2, 0),
    _kernels.Conv2D: ({"filters": 3, "kernel_size": 3, "strides": 2}, (2, 7, 7, 4), (2, 3, 3, 3), 2, 0),
    _kernels.DepthwiseConv2D: ({"kernel_size": 3, "padding": "same"}, (2, 7, 7, 4), (2, 7, 7, 4), 2, 0),
    _kernels.BatchNormalization: ({}, (2, 7, 7, 4), (2, 7, 7, 4), 2, 2),
    WinogradConv2D: ({"filters": 3}, (2, 5, 6, 4), (2, 5, 6, 3), 2, 0),
}
# Only float32 outputs, whatever the policy, or whatever the input's dtype says: Keras's battery expects the policy's.
FLOAT32 = (layers.SemanticSupervisionHead, ImageNormalization)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_the_battery(kind):
    arguments, inputs, output, trained, others = LAYERS[kind]
    testing.TestCase().run_layer_test(
        kind,
        init_kwargs=arguments,
        input_shape=inputs,
        expected_output_shape=output,
        expected_num_trainable_weights=trained,
        expected_num_non_trainable_weights=others,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        run_mixed_precision_check=kind not in FLOAT32,
    )


@pytest.mark.backend_independent
def test_every_layer_is_there():
    """Whatever the package registers as a layer is in the battery."""
    registered = {
        kind
        for name, kind in keras.saving.get_custom_objects().items()
        if name.startswith("keras_exfuse>")
        and isinstance(kind, type)
        and issubclass(kind, keras.layers.Layer)
    }
    assert {kind for kind in registered if not issubclass(kind, keras.Model)} == set(LAYERS)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_an_unknown_argument_is_refused(kind):
    with pytest.raises((TypeError, ValueError), match="strange"):
        kind(**LAYERS[kind][0], strange=1)


@pytest.mark.parametrize(
    "kind", [layers.GlobalConvolution, layers.BoundaryRefinement, layers.SemanticEmbeddingBranch]
)
def test_a_function_may_be_the_initializer(kind):
    def halves(shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype=dtype)

    arguments, inputs, *_ = LAYERS[kind]
    layer = kind(**arguments, kernel_initializer=halves)
    layer.build(inputs)
    kernels = [weight for weight in layer.weights if weight.path.endswith("kernel")]
    assert kernels
    for kernel in kernels:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), 0.5)
