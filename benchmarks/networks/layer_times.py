"""Where the time of one prediction goes: every layer of a fused model alone, and the whole.

Each layer becomes a model of its own, gets what it gets in the whole, and is run a few times; the least time counts.
The sum differs from the whole by what the backend does between layers. MACs beside the times tell how far
a layer is from the machine's rate, which a large matrix product and a ResNet-like 3x3 convolution give in the same run.

    KERAS_BACKEND=tensorflow python -m benchmarks.networks.layer_times --hardware 2core_xeon
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.networks import macs
from benchmarks.results_file import write_rows
from keras_exfuse import ExFuse, fuse_for_inference

RESULTS = Path(__file__).parents[1] / "results"


def least_seconds(function: Callable, rounds: int) -> float:
    """The shortest of some calls, after two that compile."""
    seconds = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        function()
        if number > 1:
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def ceilings(rounds: int) -> list[dict]:
    """The machine's rate: a matrix product of 2,048 and a 3x3 convolution of 256 channels on 64x64."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(2048, 2048)).astype("float32")
    product = keras.Sequential([keras.Input((2048,)), keras.layers.Dense(2048, use_bias=False)])
    maps = generator.normal(size=(1, 64, 64, 256)).astype("float32")
    convolution = keras.Sequential([keras.Input((64, 64, 256)), keras.layers.Conv2D(256, 3, padding="same")])
    return [
        _row(
            "(matrix product 2048)", least_seconds(lambda: product.predict_on_batch(matrix), rounds), 2048**3
        ),
        _row(
            "(3x3 convolution, 256 channels, 64x64)",
            least_seconds(lambda: convolution.predict_on_batch(maps), rounds),
            64 * 64 * 9 * 256 * 256,
        ),
    ]


def layer_rows(model: keras.Model, image: np.ndarray, rounds: int) -> list[dict]:
    """A row for each layer that the model calls, the slowest first."""
    nodes = [
        node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]
    ]
    values = {id(model.inputs[0]): image}
    found = []
    for node in nodes:
        if node.is_input:
            continue
        inputs = [keras.Input(batch_shape=values[id(tensor)].shape) for tensor in node.input_tensors]
        places = {id(tensor): given for tensor, given in zip(node.input_tensors, inputs, strict=True)}
        arguments, keywords = keras.tree.map_structure(
            lambda each, places=places: places.get(id(each), each),
            (node.arguments.args, node.arguments.kwargs),
        )
        alone = keras.Model(inputs, node.operation(*arguments, **keywords))
        given = [values[id(tensor)] for tensor in node.input_tensors]
        seconds = least_seconds(lambda alone=alone, given=given: alone.predict_on_batch(given), rounds)
        results = keras.tree.flatten(alone.predict_on_batch(given))
        values.update({id(tensor): value for tensor, value in zip(node.outputs, results, strict=True)})
        _, height, width, _ = image.shape
        cost = sum(
            row.macs for row in macs.count(model, height, width) if node.operation.name in row.name.split("/")
        )
        found.append(_row(node.operation.name, seconds, cost))
    return sorted(found, key=lambda row: -float(row["ms"]))


def _row(name: str, seconds: float, cost: int) -> dict:
    return {
        "layer": name,
        "ms": f"{1000 * seconds:.1f}",
        "gmacs": f"{cost / 1e9:.2f}",
        "gmacs_per_second": f"{cost / 1e9 / seconds:.0f}" if cost else "",
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", required=True, help="for the name of the table")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--arguments", type=json.loads, default={}, help="of ExFuse, as JSON")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    model = fuse_for_inference(ExFuse(21, backbone=arguments.backbone, **arguments.arguments))
    image = np.random.default_rng(0).uniform(0, 255, (1, arguments.size, arguments.size, 3)).astype("float32")
    cost = macs.total(macs.count(model, arguments.size, arguments.size))
    rows = ceilings(arguments.rounds)
    rows.append(
        _row("(the whole)", least_seconds(lambda: model.predict_on_batch(image), arguments.rounds), cost)
    )
    rows += layer_rows(model, image, arguments.rounds)
    for row in rows[:20]:
        print(*row.values(), sep="\t")
    about = {"backend": keras.backend.backend(), "keras": keras.__version__, "size": arguments.size}
    path = RESULTS / f"layer_times_{arguments.backbone}_{keras.backend.backend()}_{arguments.hardware}.csv"
    write_rows(path, [{**row, **about} for row in rows])


if __name__ == "__main__":
    main()
