"""3x3 convolutions with fewer multiplications: Winograd's minimal filtering, as matrix products.

Tiles of 4x4 input pixels, two apart, give 2x2 output pixels each. Transformed, a tile costs 16 multiplications for each
pair of channel and filter, where the convolution costs 36; the transforms are sums, of no weight where channels are
many. With all tiles side by side, the products are 16 matrix products, one for each place in a tile.

The transform of a kernel takes as long as what it saves, so `keras_exfuse.fuse_for_inference` makes it once.

Source: Lavin and Gray 2015 (arXiv 1509.09308), F(2x2, 3x3); float32's rounding is as with the convolution itself.
"""

import keras
import numpy as np
from keras import ops

# From so many products of channels and filters on, the sums of the transforms are of little weight: the least of the
# shapes that were tried (`benchmarks/NOTES.md`).
LEAST_PRODUCTS = 2**17
# Kernels (3,) to four numbers; tiles and results are transformed by sums below.
KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], "float32")
# The same in both directions, the columns of a tile before its rows: (16, 9).
_BOTH = np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM).reshape(4, 4, 9).transpose(1, 0, 2).reshape(16, 9)


def applies(case) -> bool:
    """Inference on a CPU in float32: half precision would lose digits in the sums of the transforms."""
    return (
        case.device == "cpu"
        and case.dtype == "float32"
        and not case.training
        and case.kernel[:2] == (3, 3)
        and case.is_plain
        and case.products >= LEAST_PRODUCTS
    )


def kernel_of(transformed: np.ndarray) -> np.ndarray:
    """The kernel (3, 3, C, F) that a numpy array (16, C, F) was made of."""
    columns = transformed.reshape(4, 4, *transformed.shape[1:])
    # The middle number is the difference of the middle two.
    columns = np.stack([columns[0], columns[1] - columns[2], columns[3]], axis=1)
    return np.stack([columns[0], columns[1] - columns[2], columns[3]], axis=0)


def convolve(inputs, transformed):
    """A 3x3 convolution with `same` padding and stride 1.

    Args:
        inputs: (B, H, W, C), any height and width.
        transformed: The kernel as 16 matrices (16, C, F), the columns of a tile before its rows.

    Returns:
        (B, H, W, F).
    """
    batch, height, width, channels = ops.shape(inputs)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    tiles = _tiles(inputs, batch, rows, columns, channels)
    products = ops.matmul(ops.reshape(tiles, (16, batch * rows * columns, channels)), transformed)
    outputs = _untiled(products, batch, rows, columns, transformed.shape[-1])
    return outputs if _even(height) and _even(width) else outputs[:, :height, :width]


def _tiles(inputs, batch, rows, columns, channels):
    """All tiles, transformed: (4 columns, 4 rows of a tile, B, rows, columns, C)."""
    _, height, width, _ = ops.shape(inputs)
    # One pixel of zeros around, and one more behind an odd side; a pad of a size known only at run time is not to be
    # had on every backend, a slice is.
    behind = [1 if _even(side) else 2 for side in (height, width)]
    padded = ops.pad(inputs, ((0, 0), (1, behind[0]), (1, behind[1]), (0, 0)))
    if behind != [1, 1]:
        padded = padded[:, : 2 * rows + 2, : 2 * columns + 2]
    # Pairs of rows lie together in memory: taking every second one is then no gathering of single pixels.
    pairs = ops.reshape(padded, (batch, rows + 1, 2, (2 * columns + 2) * channels))
    lines = ops.stack(_four_of(pairs[:, :, 0], pairs[:, :, 1]))
    pairs = ops.reshape(lines, (4 * batch * rows, columns + 1, 2, channels))
    return ops.stack(_four_of(pairs[:, :, 0], pairs[:, :, 1]))


def _four_of(even, odd):
    """The transform of four neighbors in one direction, from the even and the odd lines (N, n + 1, ...)."""
    first, second, third, fourth = even[:, :-1], odd[:, :-1], even[:, 1:], odd[:, 1:]
    return first - third, second + third, third - second, second - fourth


def _untiled(products, batch, rows, columns, filters):
    """The transform of the results back: (16, B * rows * columns, F) to (B, 2 * rows, 2 * columns, F)."""
    products = ops.reshape(products, (4, 4, batch * rows * columns * filters))
    across = ops.stack(_two_of(*(products[number] for number in range(4))))
    both = ops.stack(_two_of(*(across[:, number] for number in range(4))), axis=1)
    places = ops.reshape(both, (2, 2, batch, rows, columns, filters))
    return ops.reshape(ops.transpose(places, (2, 3, 1, 4, 0, 5)), (batch, 2 * rows, 2 * columns, filters))


def _two_of(first, second, third, fourth):
    return first + second + third, second - third - fourth


def _even(side) -> bool:
    return isinstance(side, int) and side % 2 == 0


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WinogradConv2D(keras.layers.Layer):
    """A 3x3 `same` convolution for inference that holds its kernel transformed.

    In memory the kernel is 16 / 9 as large; a file holds it as it was.

    Args:
        filters: Positive int.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, H, W, filters).

    Source: Lavin and Gray 2015 (arXiv 1509.09308).

    Example:
    >>> import numpy as np
    >>> from keras_exfuse._kernels.winograd import WinogradConv2D
    >>> layer = WinogradConv2D(16)
    >>> tuple(layer(np.zeros((1, 4, 5, 2048), "float32")).shape)
    (1, 4, 5, 16)
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        shape = (16, input_shape[-1], self.filters)
        self.transformed = self.add_weight(name="transformed", shape=shape, initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        super().build(input_shape)

    def set_kernel_and_bias(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Take over the weights (3, 3, C, filters) and (filters,) of a convolution."""
        flat = np.asarray(kernel, "float64").reshape(9, -1)
        self.transformed.assign((_BOTH.astype("float64") @ flat).reshape(self.transformed.shape))
        self.bias.assign(bias)

    def kernel_and_bias(self) -> list[np.ndarray]:
        """The weights of the convolution that this is."""
        return [kernel_of(ops.convert_to_numpy(self.transformed)), ops.convert_to_numpy(self.bias)]

    def call(self, inputs, training=None):
        return convolve(inputs, ops.convert_to_tensor(self.transformed)) + self.bias

    def save_own_variables(self, store):
        store["0"], store["1"] = self.kernel_and_bias()

    def load_own_variables(self, store):
        self.set_kernel_and_bias(store["0"][...], store["1"][...])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}
