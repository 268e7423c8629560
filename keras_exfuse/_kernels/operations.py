"""Operations for which each backend has a better one than `keras.ops`."""

import keras
from keras import ops

from keras_exfuse._kernels.case import BACKEND

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
    import jax.numpy as jnp
elif BACKEND == "torch":
    import torch


def resize_bilinear(images, height, width):
    """Resize (B, H, W, C) maps with half-pixel centers; the dtype is kept.

    Computed in float32: half precision loses the weights of large factors, and TensorFlow's XLA has no
    float16 kernel. On TensorFlow it calls `tf.image.resize`, since Keras 3.14.0 to 3.15.1 fail there
    in `ops.image.resize` when the size is only known at run time.
    """
    dtype = images.dtype
    images = ops.cast(images, "float32")
    if BACKEND == "tensorflow":
        resized = tf.image.resize(images, (height, width), method="bilinear")
        # A static size is lost when it passes through `tf.shape`; give back what is known.
        resized.set_shape((images.shape[0], *(_static(n) for n in (height, width)), images.shape[3]))
    else:
        resized = ops.image.resize(
            images, (height, width), interpolation="bilinear", data_format="channels_last"
        )
    return ops.cast(resized, dtype)


def depth_to_space(inputs, scale):
    """Move channels into space: channel (y * scale + x) * C + c goes to sub-pixel (y, x) of channel c.

    Keras has `ops.depth_to_space` only from 3.14 on. On TensorFlow the native operation keeps ONNX and
    LiteRT exports free of rank-6 transposes.
    """
    if BACKEND == "tensorflow":
        return tf.nn.depth_to_space(inputs, scale) if scale > 1 else inputs
    batch, height, width, channels = ops.shape(inputs)
    filters = channels // scale**2
    blocks = ops.reshape(inputs, (batch, height, width, scale, scale, filters))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (batch, height * scale, width * scale, filters))


def pad_sides(maps, rows, columns):
    """Put zeros around maps (B, H, W, C), as many as two pairs of numbers, before and behind, or of tensors say."""
    paddings = [[0, 0], list(rows), list(columns), [0, 0]]
    if BACKEND != "tensorflow":
        return ops.pad(maps, paddings)
    padded = tf.pad(maps, paddings)  # `ops.pad` accepts numbers only.
    numbers = all(isinstance(side, int) for side in (*rows, *columns))
    if not numbers and None in padded.shape[1:3]:
        # LiteRT converts no convolution whose channels it does not know, and it forgets them behind a pad of a size
        # known only at run time. `reshape` states them; it does not have `ensure_shape`.
        padded = tf.reshape(padded, (*tf.unstack(tf.shape(padded))[:3], maps.shape[-1]))
    return padded


def labels_of(scores):
    """The class of the highest score, the first of equals: (..., C) to int32 (...).

    `ops.argmax` first looks for negative zeros, which takes longer than the search; and TensorFlow's own operation is
    several times slower than what XLA makes of it. XLA compiles again for every size, so it is used where
    the size is known when the graph is made, as in training on crops.
    """
    if BACKEND == "tensorflow":
        return (_xla_argmax if None not in scores.shape[1:] else _argmax)(scores)
    if BACKEND == "jax":
        return jnp.argmax(scores, axis=-1).astype("int32")
    if BACKEND == "torch":
        return torch.max(scores, dim=-1).indices.to(torch.int32)  # Faster than `torch.argmax`.
    return ops.cast(ops.argmax(scores, axis=-1), "int32")


if BACKEND == "tensorflow":

    def _argmax(scores):
        return tf.argmax(scores, axis=-1, output_type=tf.int32)

    def _segment_count(cells, num_cells):
        return tf.math.unsorted_segment_sum(tf.ones_like(cells), cells, num_cells)

    _xla_argmax = tf.function(_argmax, jit_compile=True, autograph=False)
    _xla_segment_count = tf.function(_segment_count, jit_compile=True, autograph=False)


def count(cells, num_cells):
    """How often each of 0..num_cells-1 occurs in an int32 tensor (N,), as int32.

    Each backend's own operation is much faster than `ops.segment_sum` of ones; `ops.bincount` does not tell JAX
    the length of its result, which it must know when it compiles. TensorFlow's bincount is none of XLA's operations,
    and in a graph it is not known whether XLA will compile it, as Keras lets it do on a GPU: there a sum over segments
    stands, which XLA makes as fast, and compiles again for every size.
    """
    if BACKEND == "tensorflow":
        if tf.executing_eagerly():
            return tf.math.bincount(cells, minlength=num_cells, maxlength=num_cells)
        return (_segment_count if cells.shape[0] is None else _xla_segment_count)(cells, num_cells)
    if BACKEND == "jax":
        return jnp.bincount(cells, length=num_cells).astype("int32")
    if BACKEND == "torch":
        return torch.bincount(cells, minlength=num_cells)[:num_cells].to(torch.int32)
    return ops.segment_sum(ops.ones_like(cells), cells, num_segments=num_cells)


def _static(size):
    return size if isinstance(size, int) else None


def known_values(tensor):
    """A tensor as a numpy array where its numbers are at hand; None inside a graph or a trace.

    None on a GPU under torch, too: looking at them there would stop the step until the GPU has caught up.
    """
    if isinstance(tensor, keras.KerasTensor):
        return None
    if BACKEND == "tensorflow":
        return tensor.numpy() if tf.executing_eagerly() and hasattr(tensor, "numpy") else None
    if BACKEND == "jax":
        return None if isinstance(tensor, jax.core.Tracer) else ops.convert_to_numpy(tensor)
    if BACKEND == "torch":
        known = tensor.device.type == "cpu" and not torch.compiler.is_compiling()
        return tensor.detach().numpy() if known else None
    return ops.convert_to_numpy(tensor)
