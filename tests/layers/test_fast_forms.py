"""Faster ways to compute a layer against the plain one: the same numbers, and the same gradients."""

import numpy as np
import pytest
from keras import ops

from keras_exfuse.layers import few_filters_convolution, transposed_convolution
from tests.helpers import random_maps
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


@pytest.mark.parametrize(("kernel_size", "filters"), [(3, 5), (3, 32), (1, 21)])
def test_a_convolution_to_few_filters_is_the_plain_one(kernel_size, filters):
    maps, kernel = random_maps((2, 5, 4, 3), (kernel_size, kernel_size, 3, filters))

    def plain(maps, kernel):
        return ops.conv(maps, kernel, padding="same", data_format="channels_last")

    assert_same(few_filters_convolution.same_convolution, plain, maps, kernel)
