"""All that differs between TensorFlow, JAX and PyTorch, each piece with its reason."""

import keras
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
    import jax.numpy as jnp
elif BACKEND == "torch":
    import torch


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


def shuffles_instead_of_transposing(inputs):
    """Whether a stride-2 transposed convolution is faster as a plain convolution and `depth_to_space`.

    On a CPU under JAX and torch, whose transposed convolutions have slow gradients. TensorFlow's are as fast as that,
    or faster; on a GPU nothing was measured. Files for other engines are made under TensorFlow and keep the operation.
    """
    if BACKEND == "jax":
        return jax.default_backend() == "cpu"
    return BACKEND == "torch" and inputs.device.type == "cpu"


def forms_few_filters_gradients():
    """Whether the gradient of a kernel of few filters is faster in another way: in XLA on a CPU."""
    return BACKEND == "jax" and jax.default_backend() == "cpu"


def multiplies_pointwise_kernels():
    """Whether a convolution with a kernel of 1x1 trains faster as a matrix product: in XLA on a CPU."""
    return BACKEND == "jax" and jax.default_backend() == "cpu"


def convolve(inputs, kernel, strides=(1, 1), padding="same", dilation_rate=(1, 1)):
    """`ops.conv` of maps (B, H, W, C) and a kernel (K, K, C / groups, filters); the groups follow from the shapes.

    Keras 3.15 copies every map twice on torch, to channels first and back. Seen as channels first, a map with its
    channels last is what torch's convolutions take, and give, as it lies in memory. On JAX a kernel of 1x1 is a matrix
    product: XLA on a CPU takes up to nine times as long for the gradient of such a kernel by convolutions.
    """
    if tuple(kernel.shape[:3]) == (1, 1, inputs.shape[-1]) and multiplies_pointwise_kernels():
        return _pointwise(inputs, ops.convert_to_tensor(kernel), strides)
    odd = all(side % 2 for side in kernel.shape[:2])
    if BACKEND != "torch" or not (padding == "valid" or (tuple(strides) == (1, 1) and odd)):
        return ops.conv(
            inputs,
            kernel,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )
    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    border = [0, 0]
    if padding == "same":
        border = [side // 2 * rate for side, rate in zip(kernel.shape[:2], dilation_rate, strict=True)]
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        stride=tuple(strides),
        padding=border,
        dilation=tuple(dilation_rate),
        groups=inputs.shape[-1] // kernel.shape[2],
    )
    return outputs.permute(0, 2, 3, 1)


def _pointwise(inputs, kernel, strides):
    """A convolution with a 1x1 kernel; one large matrix, as the gradient is slower with the maps' four axes."""
    inputs = inputs[:, :: strides[0], :: strides[1]]
    products = jnp.dot(inputs.reshape(-1, inputs.shape[-1]), kernel[0, 0])
    return products.reshape(*inputs.shape[:3], kernel.shape[-1])


def lay_out_kernel(kernel):
    """Let a kernel variable (K, K, C, filters) lie in memory as torch's convolutions read it, its shape unchanged.

    They otherwise copy it, all of it, each time.
    """
    if BACKEND == "torch":
        kernel.value.data = kernel.value.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)


def has_batch_normalization(inputs):
    """Whether `normalize_batch` is there and faster than Keras's own for a map of this kind.

    On a CPU under TensorFlow and torch. XLA makes as much of Keras's many operations by itself; on a GPU nothing was
    measured. Torch's own refuses a single value a channel.
    """
    if BACKEND == "tensorflow":
        return not tf.config.list_physical_devices("GPU")
    return BACKEND == "torch" and inputs.device.type == "cpu" and inputs.numel() > inputs.shape[-1]


def normalize_batch(inputs, scale, offset, epsilon):
    """Normalise float32 maps (B, H, W, C) by their own mean and variance; give them with both, (C,) each.

    `scale` and `offset` are (C,) or None. The variance is the mean square, not the estimate with one value less that
    both backends' operations give: Keras's moving variance is made of it.
    """
    channels = inputs.shape[-1]
    if BACKEND == "tensorflow":
        values = tf.cast(tf.size(inputs) // channels, "float32")
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if scale is None else tf.convert_to_tensor(scale),
            offset=tf.zeros(channels) if offset is None else tf.convert_to_tensor(offset),
            mean=[],
            variance=[],
            epsilon=epsilon,
        )
        return outputs, mean, variance * (values - 1.0) / values
    values = inputs.numel() // channels
    mean, variance = inputs.new_zeros(channels), inputs.new_ones(channels)
    outputs = torch.nn.functional.batch_norm(
        inputs.permute(0, 3, 1, 2),  # Channels last in memory, as torch takes them, too.
        mean,
        variance,
        None if scale is None else ops.convert_to_tensor(scale),
        None if offset is None else ops.convert_to_tensor(offset),
        training=True,
        momentum=1.0,  # Both become those of the batch.
        eps=epsilon,
    )
    return outputs.permute(0, 2, 3, 1), mean, variance * (values - 1.0) / values


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
