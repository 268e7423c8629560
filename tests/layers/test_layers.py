"""The paper's parts against formulas in numpy and against PyTorch."""

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse import layers
from keras_exfuse.layers.semantic_embedding import fan_in_scale
from tests.helpers import as_numpy, draw_weights, random_maps, rebuild


def dap_formula(x, num_classes, k):
    """Section 3.4, pixel by pixel; neighbors outside the map count as zero."""
    batch, height, width, _ = x.shape
    result = np.zeros((batch, height, width, num_classes))
    for i in range(height):
        for j in range(width):
            for row in range(k):
                for column in range(k):
                    y, z = i + row - k // 2, j + column - k // 2
                    if 0 <= y < height and 0 <= z < width:
                        first = (row * k + column) * num_classes
                        result[:, i, j] += x[:, y, z, first : first + num_classes]
    return result / k**2


@settings(max_examples=12, deadline=None)
@given(
    num_classes=st.integers(1, 4),
    k=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_dap_is_the_formula(num_classes, k, height, width, seed):
    x = random_maps((2, height, width, k * k * num_classes), seed=seed)
    layer = layers.DenselyAdjacentPrediction(num_classes, window_size=k)
    np.testing.assert_allclose(as_numpy(layer(x)), dap_formula(x, num_classes, k), atol=1e-5)


def test_dap_valid_is_the_inner_part():
    x = random_maps((1, 7, 6, 18))
    same = as_numpy(layers.DenselyAdjacentPrediction(2)(x))
    valid = as_numpy(layers.DenselyAdjacentPrediction(2, padding="valid")(x))
    np.testing.assert_allclose(valid, same[:, 1:-1, 1:-1], atol=1e-6)


def test_dap_is_not_a_channel_mean():
    x = random_maps((1, 6, 6, 18))
    mean_over_groups = x.reshape(1, 6, 6, 9, 2).mean(axis=3)
    dap = as_numpy(layers.DenselyAdjacentPrediction(2)(x))
    assert np.abs(dap - mean_over_groups).max() > 0.1


@pytest.mark.parametrize(("kernel_size", "window_size"), [(4, 3), (6, 3), (6, 5)])
def test_deconvolution_and_dap_as_one(kernel_size, window_size):
    classes, channels = 3, 5
    x = random_maps((2, 4, 5, channels))
    together = layers.DenselyAdjacentDeconvolution(classes, window_size, kernel_size)
    together.build(x.shape)
    draw_weights(together)
    apart = layers.Deconvolution(window_size**2 * classes, kernel_size, crop=False)
    apart.build(x.shape)
    for mine, theirs in zip(apart.weights, together.weights, strict=True):
        mine.assign(theirs)
    dap = layers.DenselyAdjacentPrediction(classes, window_size, padding="valid")
    expected = as_numpy(dap(apart(x)))
    spare = (kernel_size - 2) // 2 - window_size // 2
    if spare:
        expected = expected[:, spare:-spare, spare:-spare]
    result = as_numpy(together(x))
    assert result.shape == (2, 8, 10, classes)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [2, 4, 6])
def test_deconvolution_is_torchs(kernel_size):
    x = random_maps((2, 5, 4, 3))
    layer = layers.Deconvolution(6, kernel_size)
    layer.build(x.shape)
    draw_weights(layer)
    kernel, bias = (as_numpy(weight) for weight in layer.weights)
    theirs = torch.nn.functional.conv_transpose2d(
        torch.tensor(x.transpose(0, 3, 1, 2)),
        torch.tensor(kernel.transpose(3, 2, 0, 1).copy()),
        torch.tensor(bias),
        stride=2,
        padding=(kernel_size - 2) // 2,
    )
    np.testing.assert_allclose(as_numpy(layer(x)), theirs.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_deconvolution_starts_as_bilinear_upsampling():
    x = random_maps((1, 5, 6, 2))
    upsampled = as_numpy(layers.Deconvolution(2)(x))
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x.transpose(0, 3, 1, 2)), scale_factor=2, mode="bilinear", align_corners=False
    )
    theirs = theirs.numpy().transpose(0, 2, 3, 1)
    # At the border interpolation repeats the edge, where a deconvolution has nothing.
    np.testing.assert_allclose(upsampled[:, 1:-1, 1:-1], theirs[:, 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize(("k", "count"), [(3, 260_694), (5, 434_490), (7, 608_286), (9, 782_082)])
def test_gcn_has_the_published_number_of_weights(k, count):
    layer = layers.GlobalConvolution(21, k, use_bias=False, kernel_initializer="zeros")
    layer.build((None, 16, 16, 2048))
    assert layer.count_params() == count


def torch_convolution(x, kernel, bias, groups=1):
    """A `same` convolution by torch, channels last outside."""
    kernel = kernel.transpose(3, 2, 0, 1)
    padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    result = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)),
        torch.tensor(kernel.copy()),
        torch.tensor(bias),
        padding=padding,
        groups=groups,
    )
    return result.numpy().transpose(0, 2, 3, 1)


def test_gcn_against_torch():
    x = random_maps((1, 9, 8, 4))
    layer = layers.GlobalConvolution(3, 5)
    layer.build(x.shape)
    draw_weights(layer)
    weights = {"/".join(weight.path.split("/")[-2:]): as_numpy(weight) for weight in layer.weights}

    def convolve(maps, name):
        return torch_convolution(maps, weights[f"{name}/kernel"], weights[f"{name}/bias"])

    left = convolve(convolve(x, "column_first"), "then_row")
    right = convolve(convolve(x, "row_first"), "then_column")
    np.testing.assert_allclose(as_numpy(layer(x)), left + right, atol=1e-4)
    assert weights["column_first/kernel"].shape == (5, 1, 4, 3)
    assert weights["then_row/kernel"].shape == (1, 5, 3, 3)


@pytest.mark.parametrize("groups", [1, 3])
def test_boundary_refinement_against_torch(groups):
    x = random_maps((2, 6, 5, 6))
    layer = layers.BoundaryRefinement(groups=groups)
    layer.build(x.shape)
    draw_weights(layer)
    kernel_1, bias_1, kernel_2, bias_2 = (as_numpy(weight) for weight in layer.weights)
    inner = np.maximum(torch_convolution(x, kernel_1, bias_1, groups), 0.0)
    expected = x + torch_convolution(inner, kernel_2, bias_2, groups)
    np.testing.assert_allclose(as_numpy(layer(x)), expected, atol=1e-4)


def test_boundary_refinement_inits_as_the_identity():
    x = random_maps((1, 6, 6, 4))
    np.testing.assert_array_equal(as_numpy(layers.BoundaryRefinement()(x)), x)
    assert np.abs(as_numpy(layers.BoundaryRefinement(init="random")(x)) - x).max() > 0


@pytest.mark.parametrize("sizes", [(4, 2), (3, 2)])
def test_semantic_embedding_against_torch(sizes):
    """Convolution first, upsampling second, then the product; also between sizes that are no multiples."""
    low = random_maps((1, 8, 9, 4))
    highs = random_maps(*[(1, size, size, 3 + size) for size in sizes], seed=1)
    branch = layers.SemanticEmbeddingBranch()
    branch.build([low.shape, *(high.shape for high in highs)])
    draw_weights(branch)
    expected = low
    for convolution, high in zip(branch.convolutions, highs, strict=True):
        factor = torch_convolution(high, as_numpy(convolution.kernel), as_numpy(convolution.bias))
        factor = torch.nn.functional.interpolate(
            torch.tensor(factor.transpose(0, 3, 1, 2)), size=(8, 9), mode="bilinear", align_corners=False
        )
        expected = expected * factor.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(as_numpy(branch([low, *highs])), expected, atol=1e-4)


@pytest.mark.parametrize("convolution", ["separable", "bottleneck"])
def test_lean_semantic_embedding_against_torch(convolution):
    """Depthwise and 1x1, or 1x1 to a quarter, 3x3 and 1x1, in place of the dense convolution; two higher maps."""
    low = random_maps((1, 8, 9, 8))
    highs = random_maps((1, 4, 4, 80), (1, 2, 2, 3), seed=1)
    branch = layers.SemanticEmbeddingBranch(convolution=convolution)
    branch.build([low.shape, *(high.shape for high in highs)])
    draw_weights(branch)
    expected = low
    for index, high in enumerate(highs):
        factor = high
        for layer in branch.factor_layers(index):
            kernel, *bias = (as_numpy(each) for each in layer.get_weights())
            groups = 1
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kernel, groups = kernel.transpose(0, 1, 3, 2), kernel.shape[2]
            bias = bias[0] if bias else np.zeros(kernel.shape[-1], "float32")
            factor = torch_convolution(factor, kernel, bias, groups)
        factor = torch.nn.functional.interpolate(
            torch.tensor(factor.transpose(0, 3, 1, 2)), size=(8, 9), mode="bilinear", align_corners=False
        )
        expected = expected * factor.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(as_numpy(branch([low, *highs])), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("convolution", "weights"),
    [
        # One bias for each channel of the low map besides.
        ("dense", 9 * 2048 * 256 + 256),
        ("separable", 9 * 2048 + 2048 * 256 + 256),
        ("bottleneck", 2048 * 64 + 9 * 64 * 64 + 64 * 256 + 256),
    ],
)
def test_weights_of_a_semantic_embedding(convolution, weights):
    branch = layers.SemanticEmbeddingBranch(convolution=convolution)
    branch.build([(1, 8, 8, 256), (1, 1, 1, 2048)])
    assert branch.count_params() == weights


@pytest.mark.parametrize("convolution", ["dense", "separable", "bottleneck"])
@pytest.mark.parametrize("normalization", [False, True])
def test_semantic_embedding_can_start_as_the_identity(normalization, convolution):
    low, high = random_maps((1, 8, 8, 4), (1, 4, 4, 6))
    options = {"normalization": normalization, "convolution": convolution}
    branch = layers.SemanticEmbeddingBranch(**options)
    np.testing.assert_allclose(as_numpy(branch([low, high])), low, atol=1e-6)
    branch = layers.SemanticEmbeddingBranch(**options, init="random")
    assert np.abs(as_numpy(branch([low, high])) - low).max() > 0.1


@pytest.mark.parametrize(
    ("fan_in", "scale"), [(40, 1), (9 * 40, 1 / 2), (9 * 320, 1 / 8), (9 * 2048, 1 / 16)]
)
def test_the_scale_of_a_fan_in(fan_in, scale):
    assert fan_in_scale(fan_in) == scale


@pytest.mark.parametrize("scale", [2, 3])
def test_channel_resolution_shuffles_as_written(scale):
    x = random_maps((1, 4, 5, 3 * scale**2))
    layer = layers.ChannelResolutionEmbedding(3, scale=scale, kernel_size=None)
    expected = np.zeros((1, 4 * scale, 5 * scale, 3))
    for y in range(scale):
        for z in range(scale):
            first = (y * scale + z) * 3
            expected[:, y::scale, z::scale] = x[..., first : first + 3]
    np.testing.assert_array_equal(as_numpy(layer(x)), expected)


def test_channel_resolution_expands_first():
    x = random_maps((1, 4, 5, 3))
    layer = layers.ChannelResolutionEmbedding(3)
    layer.build(x.shape)
    draw_weights(layer)
    kernel, bias = (as_numpy(weight) for weight in layer.weights)
    assert kernel.shape == (3, 3, 3, 12)
    expanded = torch_convolution(x, kernel, bias)
    shuffle = layers.ChannelResolutionEmbedding(3, kernel_size=None)
    np.testing.assert_allclose(as_numpy(layer(x)), as_numpy(shuffle(expanded)), atol=1e-5)


def test_channel_resolution_starts_as_a_bilinear_deconvolution():
    x = random_maps((2, 4, 5, 3))
    expected = as_numpy(layers.Deconvolution(6)(x))
    found = as_numpy(layers.ChannelResolutionEmbedding(6)(x))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("scale", "kernel_size"), [(2, 1), (2, 4), (3, 3), (4, 5)])
def test_a_constant_stays_constant_at_the_start_of_channel_resolution(scale, kernel_size):
    embed = layers.ChannelResolutionEmbedding(2, scale=scale, kernel_size=kernel_size)
    inside = as_numpy(embed(np.full((1, 9, 9, 2), 5.0, "float32")))[
        :, 4 * scale : 5 * scale, 4 * scale : 5 * scale
    ]
    np.testing.assert_allclose(inside, 5.0, rtol=1e-6)


def test_semantic_supervision_head_against_torch():
    x = random_maps((2, 6, 5, 4))
    head = layers.SemanticSupervisionHead(3, filters=5, units=7)
    head.build(x.shape)
    draw_weights(head)
    weights = {"/".join(weight.path.split("/")[-2:]): as_numpy(weight) for weight in head.weights}
    maps = x
    for name in ("first", "second"):
        maps = np.maximum(torch_convolution(maps, weights[f"{name}/kernel"], weights[f"{name}/bias"]), 0)
    hidden = maps.mean(axis=(1, 2)) @ weights["hidden/kernel"] + weights["hidden/bias"]
    expected = np.maximum(hidden, 0) @ weights["classifier/kernel"] + weights["classifier/bias"]
    np.testing.assert_allclose(as_numpy(head(x)), expected, atol=1e-4)


@pytest.mark.parametrize("size", [(7, 9), (16, 12), (3, 2), (5, 4)])
def test_resize_is_torchs_without_aligned_corners(size):
    x, like = random_maps((2, 5, 4, 3), (1, *size, 1))
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x.transpose(0, 3, 1, 2)), size=size, mode="bilinear", align_corners=False
    )
    mine = as_numpy(layers.BilinearResize()([x, like]))
    np.testing.assert_allclose(mine, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_padding_and_cropping_undo_each_other(height, width):
    x = random_maps((1, height, width, 3)) * 50 + 100
    padded = layers.PadToMultiple(32)(x)
    assert padded.shape[1] % 32 == padded.shape[2] % 32 == 0
    assert 0 <= padded.shape[1] - height < 32
    np.testing.assert_array_equal(as_numpy(layers.CropLike()([padded, x])), x)
    border = as_numpy(padded)[:, height:]
    color = np.broadcast_to(np.float32([123.675, 116.28, 103.53]), border.shape)
    np.testing.assert_allclose(border, color, atol=1e-4)


def test_padding_does_not_round_the_image_in_half_precision():
    images = np.arange(256, dtype="float32").repeat(3).reshape(1, 16, 16, 3)
    padded = as_numpy(layers.PadToMultiple(32, dtype="bfloat16")(images)).astype("float32")
    np.testing.assert_array_equal(padded[:, :16, :16], images)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: layers.GlobalConvolution(21, 4), "`kernel_size` must be odd.*Use 3 or 5"),
        (lambda: layers.GlobalConvolution(0), "`filters` must be a positive int"),
        (lambda: layers.DenselyAdjacentPrediction(21, 2), "`window_size` must be odd.*Use 1 or 3"),
        (lambda: layers.DenselyAdjacentPrediction(21, padding="full"), "must be one of.*'full'"),
        (lambda: layers.DenselyAdjacentDeconvolution(21, 5, 4), "larger than `window_size`"),
        (lambda: layers.Deconvolution(21, 3), "must be even.*Use 2 or 4"),
        (lambda: layers.SemanticEmbeddingBranch(init="zero"), "`init` must be one of.*'zero'"),
        (lambda: layers.SemanticEmbeddingBranch(convolution="depthwise"), "`convolution` must be one of"),
        (lambda: layers.PadToMultiple(0), "`multiple` must be a positive int"),
        (lambda: layers.DenselyAdjacentPrediction(21).build((1, 8, 8, 21)), "= 189 channels.*21"),
        (lambda: layers.BoundaryRefinement(groups=4).build((1, 8, 8, 21)), "must divide.*groups=4"),
        (lambda: layers.SemanticEmbeddingBranch().build([(1, 8, 8, 21)]), r"\[low, \*highs\]"),
        (
            lambda: layers.ChannelResolutionEmbedding(21, kernel_size=None).build((1, 8, 8, 21)),
            "= 84 channels",
        ),
    ],
)
def test_errors_say_what_was_expected(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("kind", [layers.BilinearResize, layers.CropLike])
def test_a_dtype_policy_survives_serialization(kind):
    assert rebuild(kind(dtype=keras.DTypePolicy("mixed_bfloat16"))).dtype_policy.name == "mixed_bfloat16"
