"""How time and memory of a prediction grow: with the image's side, batch, classes, and the number of images.

    python -m benchmarks.networks.growth --hardware 2core_epyc
    python -m benchmarks.networks.growth --quick

ExFuse on EfficientNet-Lite0 with drawn weights, fused, labelled by `Predictor` on one backend. Every point is a process
of its own, so that the peak of memory is that of the point. The last column is the exponent of growth along a row of
points: the slope of a straight line through the logarithms of time and of pixels (batch, classes, images), 1 being
linear. Writes `benchmarks/results/growth_BACKEND_HARDWARE.csv`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.contest import Candidate, about, quartiles, serve
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
# What grows: settings of its points, and the count that it grows with.
SERIES: dict[str, list[dict]] = {
    "side": [{"side": side} for side in (128, 256, 512, 1024, 2048)],
    "batch": [{"side": 256, "batch": batch} for batch in (1, 2, 4, 8, 16)],
    # Smaller images: with 1,000 classes one of 256x256 takes minutes.
    "classes": [{"side": 128, "classes": classes} for classes in (2, 21, 150, 1000)],
    "score_channels": [
        {"side": 128, "classes": classes, "score_channels": 64} for classes in (2, 21, 150, 1000)
    ],
    "images": [{"side": 128, "images": images} for images in (10, 100, 1000)],
}
# Points of each series, from the first on.
QUICK = {"side": 4, "batch": 3, "classes": 3, "score_channels": 3, "images": 2}


def count_of(series: str, setting: dict) -> int:
    """Pixels for sides, classes for score channels, else the number itself."""
    if series == "side":
        return setting["side"] ** 2
    return setting["classes" if series == "score_channels" else series]


def predict(
    side: int, batch: int = 1, classes: int = 21, images: int = 0, score_channels: int | None = None
) -> None:
    """Serve one point: a batch, or a stream of so many images."""
    from keras_exfuse import ExFuse, Predictor, fuse_for_inference

    model = fuse_for_inference(ExFuse(classes, "efficientnet_lite0", score_channels=score_channels))
    predictor = Predictor(model, batch_size=batch)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (side, side, 3), "uint8")
    given = np.stack([image] * batch)

    def stream():
        # New arrays, as files would give them: what is kept by mistake shows in the memory.
        for _ in predictor.stream(image.copy() for _ in range(images)):
            pass

    serve(
        stream if images else lambda: predictor(given),
        {},
        warm_up=2 if batch * classes < 1000 and not images else 1,
    )


def measure(series: str, setting: dict, rounds: int, backend: str) -> dict:
    """One point in a process of its own."""
    arguments = ["-m", "benchmarks.networks.growth", "--serve", json.dumps(setting)]
    candidate = Candidate(f"{series} {setting}", arguments, {"KERAS_BACKEND": backend})
    if setting.get("images", 0) > 100 or (
        setting.get("classes", 0) > 150 and "score_channels" not in setting
    ):
        rounds = 1
    low, middle, high = quartiles([1000 * candidate.seconds() for _ in range(rounds)])
    row = {"series": series, "side": setting["side"], "score_channels": setting.get("score_channels", "")}
    row |= {name: setting.get(name, least) for name, least in (("batch", 1), ("classes", 21), ("images", 1))}
    row |= {"ms": f"{middle:.1f}", "ms_quartiles": f"{low:.1f} {high:.1f}", "rounds": rounds}
    return {**row, **candidate.facts, **candidate.stop()}


def exponent(counts: list[float], values: list[float]) -> float:
    """The slope of a straight line through the logarithms: values grow as counts to this power."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def with_exponents(series: str, settings: list[dict], rows: list[dict]) -> list[dict]:
    """The rows of a series with its exponents of time and of memory."""
    counts: list[float] = [count_of(series, setting) for setting in settings]
    for name, column in (("time_exponent", "ms"), ("memory_exponent", "peak_mb")):
        slope = exponent(counts, [float(row[column]) for row in rows])
        rows = [{**row, name: f"{slope:.2f}"} for row in rows]
    return rows


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="tensorflow")
    parser.add_argument("--series", nargs="+", default=SERIES, choices=SERIES)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller points, under 2 minutes")
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        predict(**json.loads(arguments.serve))
        sys.exit()
    rows: list[dict] = []
    for series in arguments.series:
        settings = SERIES[series][: QUICK[series]] if arguments.quick else SERIES[series]
        found = []
        for setting in settings:
            rounds = arguments.rounds or (3 if arguments.quick else 7)
            found.append(measure(series, setting, rounds, arguments.backend))
            print(setting, found[-1]["ms"], "ms", found[-1]["peak_mb"], "MB", flush=True)
        rows += with_exponents(series, settings, found)
        print(f"{series}: time {rows[-1]['time_exponent']}, memory {rows[-1]['memory_exponent']}")
    packages = tuple(dict.fromkeys(("keras", arguments.backend, "numpy")))
    rows = [{"backend": arguments.backend, **row, **about(packages, arguments.note)} for row in rows]
    if arguments.hardware:
        write_rows(RESULTS / f"growth_{arguments.backend}_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
