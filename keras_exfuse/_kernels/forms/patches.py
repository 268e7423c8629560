"""3x3 convolutions of very many channels as one matrix product with the nine shifted maps side by side.

Small maps of very many channels, such as a backbone's last ones, are what the backends' convolutions on a CPU are worst
at. With fewer channels the copies of the patches cost more than they save.
"""

from keras import ops

# From so many products of channels and filters on, outside of training and in it, the matrix product is faster
# (`benchmarks/NOTES.md`).
LEAST_PRODUCTS = {
    "tensorflow": (2**18, 2**20),
    "jax": (2**20, 2**19),
    "torch": (2**18, 2**20),
}


def applies(case) -> bool:
    """A CPU, 3x3, stride 1, and so many channels that it pays."""
    return (
        case.device == "cpu"
        and case.backend in LEAST_PRODUCTS
        and case.kernel[:2] == (3, 3)
        and case.is_plain
        and case.products >= LEAST_PRODUCTS[case.backend][case.training]
    )


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    _, height, width, channels = ops.shape(inputs)
    padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)
    ]
    return ops.matmul(
        ops.concatenate(shifted, axis=-1), ops.reshape(kernel, (9 * channels, kernel.shape[-1]))
    )
