"""Faster ways to compute a layer against the plain one: the same numbers, and the same gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_exfuse import _backend, layers
from keras_exfuse.layers import few_filters_convolution, transposed_convolution
from tests.helpers import as_numpy, random_maps
from tests.layers.gradients import outputs_and_gradients


def assert_same(way, plain, *arrays):
    """Outputs and gradients within 1e-4 of the largest number."""
    outputs, gradients = outputs_and_gradients(way, *arrays)
    expected, expected_gradients = outputs_and_gradients(plain, *arrays)
    for found, wanted in zip([outputs, *gradients], [expected, *expected_gradients], strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("kernel_size", [2, 4, 6, 8])
def test_a_convolution_and_a_shuffle_are_the_transposed_convolution(kernel_size, crop):
    maps, kernel = random_maps((2, 5, 4, 3), (kernel_size, kernel_size, 6, 3))

    def plain(maps, kernel):
        padding = "same" if crop else "valid"
        return ops.conv_transpose(maps, kernel, strides=2, padding=padding, data_format="channels_last")

    def shuffled(maps, kernel):
        return transposed_convolution.convolution_and_shuffle(maps, kernel, crop)

    assert_same(shuffled, plain, maps, kernel)


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 3, 5), (3, 3, 3, 32), (1, 1, 3, 21), (5, 1, 12, 2), (1, 5, 12, 2), (3, 2, 13, 2), (2, 2, 8, 2)],
)
def test_a_convolution_to_few_filters_is_the_plain_one(shape):
    maps, kernel = random_maps((2, 5, 4, shape[2]), shape)

    def plain(maps, kernel):
        return ops.conv(maps, kernel, padding="same", data_format="channels_last")

    assert_same(few_filters_convolution.same_convolution, plain, maps, kernel)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "same", "dilation_rate": (2, 2)},
        {"padding": "valid", "strides": (2, 2)},
        {"padding": "same", "strides": (2, 2)},
        {"padding": "valid", "dilation_rate": (1, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (1, 1, 4, 5), (5, 1, 4, 2), (2, 2, 4, 3)])
def test_a_convolution_without_copies_is_the_plain_one(shape, options):
    maps, kernel = random_maps((2, 7, 6, 4), shape)

    def plain(maps, kernel):
        return ops.conv(maps, kernel, data_format="channels_last", **options)

    assert_same(lambda maps, kernel: _backend.convolve(maps, kernel, **options), plain, maps, kernel)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_convolution_without_copies_is_keras_grouped_one(groups):
    maps, kernel = random_maps((2, 7, 6, 4), (3, 3, 4 // groups, 8))
    expected = keras.layers.Conv2D(8, 3, padding="same", groups=groups, use_bias=False)
    expected(maps)
    expected.set_weights([kernel])
    found = as_numpy(_backend.convolve(maps, kernel))
    np.testing.assert_allclose(found, as_numpy(expected(maps)), rtol=1e-4, atol=1e-4)


def test_a_laid_out_kernel_trains_and_keeps_its_values():
    """Moved in memory, it stays the weight that it is: set, read, trained, and with its gradient."""
    maps = random_maps((2, 6, 5, 3))
    kernel = random_maps((3, 3, 3, 4))
    models = []
    for kind in (layers.Convolution, keras.layers.Conv2D):
        model = keras.Sequential([keras.Input((None, None, 3)), kind(4, 3, padding="same", use_bias=False)])
        model.set_weights([kernel])
        np.testing.assert_array_equal(model.get_weights()[0], kernel)
        model.compile(optimizer=keras.optimizers.AdamW(0.1), loss="mse")
        for _ in range(3):
            model.train_on_batch(maps, np.zeros((2, 6, 5, 4), "float32"))
        models.append(model)
    ours, theirs = (model.get_weights()[0] for model in models)
    assert np.abs(ours - kernel).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
