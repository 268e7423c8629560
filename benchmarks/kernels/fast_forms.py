"""Layers that a backend computes in another way than the plain operation: both ways in turns.

Forward alone, and a training step with the gradients of weights and input, at the sizes of ExFuse's decoder on crops of
256x256 and on images of 512x512.

    KERAS_BACKEND=jax python -m benchmarks.kernels.fast_forms --hardware 2core_epyc

Not every form is there on every backend (`_backend` says which): `--cases` chooses.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import keras
import numpy as np

from benchmarks.kernels.wide_convolution import forward, step
from benchmarks.results_file import write_rows
from benchmarks.timing import seconds_in_turns
from keras_exfuse import _backend, layers

RESULTS = Path(__file__).parents[1] / "results"

# The layer, its input (batch, side, channels), and the question of `_backend` that is answered both ways.
CASES: dict[str, tuple[Callable[[], keras.layers.Layer], tuple[int, int, int], str]] = {
    "adjacent_deconvolution_1, crops": (
        lambda: layers.DenselyAdjacentDeconvolution(21),
        (8, 128, 21),
        "shuffles_instead_of_transposing",
    ),
    "deconvolution_2, crops": (
        lambda: layers.Deconvolution(21),
        (8, 64, 21),
        "shuffles_instead_of_transposing",
    ),
    "adjacent_deconvolution_1, images": (
        lambda: layers.DenselyAdjacentDeconvolution(21),
        (1, 256, 21),
        "shuffles_instead_of_transposing",
    ),
    "refine_1, crops": (
        lambda: layers.BoundaryRefinement(init="random"),
        (8, 256, 21),
        "forms_few_filters_gradients",
    ),
    "global_convolution_1 on ResNet-50, images": (
        lambda: layers.GlobalConvolution(21, kernel_size=7),
        (2, 128, 256),
        "forms_few_filters_gradients",
    ),
    "res2_block1_conv3 of ResNet-50, images": (
        lambda: layers.Convolution(256, 1),
        (2, 128, 64),
        "multiplies_pointwise_kernels",
    ),
    "deconvolution_2 of 189 channels": (
        lambda: layers.Deconvolution(189),
        (1, 64, 189),
        "shuffles_instead_of_transposing",
    ),
    "block1_expand_bn of EfficientNet-Lite0, crops": (
        layers.BatchNormalization,
        (8, 128, 96),
        "has_batch_normalization",
    ),
    "a normalisation of ResNet-50, images": (
        layers.BatchNormalization,
        (2, 128, 256),
        "has_batch_normalization",
    ),
}


def measure(name: str, rounds: int) -> list[dict]:
    """Rows of one case: milliseconds of each way, medians, and the ratio."""
    make_layer, (batch, side, channels), question = CASES[name]
    maps = np.random.default_rng(0).normal(size=(batch, side, side, channels)).astype("float32")
    rows = []
    for what, make in (("forward", forward), ("training step", step)):
        functions = {}
        for way in ("plain", "fast"):
            layer = make_layer()
            layer.build(maps.shape)
            functions[way] = answered(question, way == "fast", make(layer, channels), maps)
        seconds = seconds_in_turns(functions, rounds)
        middle = {way: 1000 * statistics.median(times) for way, times in seconds.items()}
        rows.append(
            {
                "backend": keras.backend.backend(),
                "layer": name,
                "what": what,
                "ms_plain": f"{middle['plain']:.1f}",
                "ms_fast": f"{middle['fast']:.1f}",
                "times_faster": f"{middle['plain'] / middle['fast']:.2f}",
                "keras": keras.__version__,
            }
        )
        print(rows[-1], flush=True)
    return rows


def answered(question: str, answer: bool, function: Callable, maps: np.ndarray) -> Callable[[], object]:
    """A call of the function while `_backend` gives one answer: a backend may ask at every call."""

    def call():
        with mock.patch.object(_backend, question, lambda *_: answer):
            return function(maps)

    return call


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", required=True, help="for the name of the table")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    rows = [row for name in arguments.cases for row in measure(name, arguments.rounds)]
    write_rows(RESULTS / f"fast_forms_{keras.backend.backend()}_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
