"""Kernels drawn by numpy: their distribution, their seeds, and their survival in a saved layer."""

import keras
import numpy as np
import pytest

from keras_exfuse.layers.initializers import NormalKernel
from tests.helpers import as_numpy, rebuild

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize(("given", "expected"), [(None, np.sqrt(2 / (9 * 64))), (0.01, 0.01)])
def test_the_deviation_is_the_one_asked_for(given, expected):
    kernel = as_numpy(NormalKernel(given, seed=1)((3, 3, 32, 64)))
    assert kernel.dtype == "float32"
    assert kernel.std() == pytest.approx(expected, rel=0.03) and abs(kernel.mean()) < 0.05 * expected


def test_kernels_follow_from_the_seed_of_keras_or_their_own():
    def draw(seed):
        return as_numpy(NormalKernel(seed=seed)((1, 1, 4, 4)))

    np.testing.assert_array_equal(draw(5), draw(5))
    assert not np.array_equal(draw(5), draw(6))
    keras.utils.set_random_seed(3)
    first = draw(None)
    assert not np.array_equal(draw(None), first)
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(draw(None), first)


def test_a_layer_keeps_its_initializer():
    layer = keras.layers.Conv2D(4, 3, kernel_initializer=NormalKernel(0.5, seed=2))
    again = rebuild(layer).kernel_initializer
    assert isinstance(again, NormalKernel) and again.get_config() == {"stddev": 0.5, "seed": 2}
