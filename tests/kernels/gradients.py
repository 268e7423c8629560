"""Gradients of a function of arrays by the active backend."""

import keras
from keras import ops

from tests.helpers import as_numpy


def outputs_and_gradients(function, *arrays):
    """The outputs, and the gradients of the sum of their squares with respect to every array, as numpy."""

    def loss(*tensors):
        return ops.sum(ops.square(ops.cast(function(*tensors), "float32")))

    tensors = [ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total = loss(*tensors)
        gradients = tape.gradient(total, tensors)
    elif backend == "jax":
        import jax

        gradients = jax.grad(loss, argnums=tuple(range(len(tensors))))(*tensors)
    else:
        tensors = [tensor.requires_grad_() for tensor in tensors]
        loss(*tensors).backward()
        gradients = [tensor.grad for tensor in tensors]
    return as_numpy(function(*tensors)), [as_numpy(gradient) for gradient in gradients]
