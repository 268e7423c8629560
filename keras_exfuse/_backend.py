"""All that differs between TensorFlow, JAX and PyTorch, each piece with its reason."""

import keras
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf


def resize_bilinear(images, height, width):
    """Resize (B, H, W, C) maps with half-pixel centres; the dtype is kept.

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


def _static(size):
    return size if isinstance(size, int) else None
