"""3x3 convolutions of very many channels on small maps: the backend's convolution against matrix products.

Shapes are those of the semantic embedding branches of ResNet-50 at 512x512. The candidates take turns on the same
input: the convolution, one product of patches and kernel, forward and with the gradients of input and kernel; and,
forward only, the products of tiles and a kernel that was transformed before. The numbers behind the limits in
`keras_exfuse/layers/wide_convolution.py` and `winograd.py`.

    KERAS_BACKEND=jax python -m benchmarks.kernels.wide_convolution --hardware 2core_xeon
"""

import argparse
import math
import statistics
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from keras import ops

from benchmarks.results_file import write_rows
from benchmarks.timing import seconds_in_turns
from keras_exfuse.layers import TransformedConvolution, wide_convolution

RESULTS = Path(__file__).parents[1] / "results"
SHAPES = ((16, 2048, 1024), (16, 2048, 256), (32, 1024, 512), (32, 1024, 256), (64, 512, 256))


def forward(layer, channels):
    """The layer compiled, as a function of an array that waits for the result."""
    model = keras.Sequential([keras.Input((None, None, channels)), layer])
    return lambda maps: model.predict_on_batch(maps)


def step(layer, channels):
    """A training step of the layer."""
    # A first layer with a weight, so that the gradient of the layer's input is computed as well.
    whole = keras.Sequential([keras.Input((None, None, channels)), Scale(), layer])
    whole.compile(optimizer=keras.optimizers.SGD(1e-9), loss=lambda truth, found: ops.mean(ops.square(found)))
    return lambda maps: whole.train_on_batch(maps, maps[..., :1])


def limited(limit: float, function, maps):
    """A call of the function, while the layer has one limit for all: a backend may read it at every call."""

    def call():
        with mock.patch.dict(wide_convolution.LIMITS, {keras.backend.backend(): (limit, limit)}):
            return function(maps)

    return call


class Scale(keras.layers.Layer):
    """Multiplies by a weight."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def measure(side: int, channels: int, filters: int, rounds: int) -> list[dict]:
    """Rows of one shape: milliseconds of each way, medians, and the ratio."""
    maps = np.random.default_rng(0).normal(size=(1, side, side, channels)).astype("float32")
    rows = []
    for what, make in (("forward", forward), ("training step", step)):
        functions = {}
        for way, limit in (("convolution", math.inf), ("product", 0)):
            layer = wide_convolution.WideConvolution(filters)
            layer.build(maps.shape)
            functions[way] = limited(limit, make(layer, channels), maps)
        if what == "forward":
            fused = forward(TransformedConvolution(filters), channels)
            functions["transformed"] = lambda fused=fused: fused(maps)
        seconds = seconds_in_turns(functions, rounds)
        middle = {way: 1000 * statistics.median(times) for way, times in seconds.items()}
        rows.append(
            {
                "backend": keras.backend.backend(),
                "what": what,
                "side": side,
                "channels": channels,
                "filters": filters,
                "ms_convolution": f"{middle['convolution']:.1f}",
                "ms_product": f"{middle['product']:.1f}",
                "ms_transformed": f"{middle['transformed']:.1f}" if "transformed" in middle else "",
                "product_faster": f"{middle['convolution'] / middle['product']:.2f}",
                "transformed_faster": (
                    f"{middle['convolution'] / middle['transformed']:.2f}" if "transformed" in middle else ""
                ),
                "keras": keras.__version__,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", required=True, help="for the name of the table")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rows = [row for shape in SHAPES for row in measure(*shape, arguments.rounds)]
    write_rows(RESULTS / f"wide_convolution_{keras.backend.backend()}_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
