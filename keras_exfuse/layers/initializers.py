"""Random kernels drawn by numpy."""

import math
import random

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_exfuse")
class NormalKernel(keras.initializers.Initializer):
    """A convolution's kernel from a normal distribution, the same on every backend for the same seed.

    Keras draws on the backend, where JAX compiles a program for every shape: that was most of the time in which a
    model was built, loaded or fused, for weights that loading and fusing then replace.

    Args:
        stddev: Standard deviation, or None for He normal, fan-out, sqrt(2 / (kernel's area * filters)).
        seed: An int; by default one from Python's random numbers, which `keras.utils.set_random_seed` seeds.

    Source: He et al. 2015 (arXiv 1502.01852), section 2.2, for the deviation.

    Example:
    >>> from keras_exfuse.layers.initializers import NormalKernel
    >>> tuple(NormalKernel(seed=0)((3, 3, 16, 32)).shape)
    (3, 3, 16, 32)
    """

    def __init__(self, stddev=None, seed=None):
        self.stddev = stddev
        self._given_seed = seed
        self.seed = random.randint(1, 10**9) if seed is None else seed

    def __call__(self, shape, dtype=None):
        stddev = self.stddev
        if stddev is None:
            stddev = math.sqrt(2.0 / (math.prod(shape[:-2]) * shape[-1]))
        kernel = np.random.default_rng(self.seed).standard_normal(shape, "float32")
        kernel *= np.float32(stddev)
        return ops.convert_to_tensor(kernel, dtype=dtype or keras.config.floatx())

    def get_config(self):
        return {"stddev": self.stddev, "seed": self._given_seed}
