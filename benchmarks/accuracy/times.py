"""What the candidates of `comparison.py` cost: a training step and a prediction, in processes that take turns.

    python -m benchmarks.accuracy.times --hardware 2core_epyc

The comparison itself runs for hours beside other work, so its own seconds compare nothing. Here is the same step (8
crops of 256, the same loss and optimizer, 21 classes) and one image of 512x512 as each model's users would run it,
ExFuse and GCN fused. Every candidate runs beside ExFuse, a few at a time, since all together need too much memory.
Writes `benchmarks/results/accuracy_times_HARDWARE.csv`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.contest import Candidate, about, measure, serve
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
REFERENCE, CLASSES, TOGETHER = "exfuse", 21, 3


def step(candidate: str) -> Callable[[], object]:
    """A training step of the comparison, on random images: what they show changes no time."""
    from benchmarks.accuracy import comparison as accuracy

    model = accuracy.compiled(candidate, accuracy.BUDGETS["animals"])
    generator = np.random.default_rng(0)
    shape = (accuracy.BATCH, accuracy.CROP, accuracy.CROP)
    images = generator.integers(0, 256, (*shape, 3)).astype("uint8")
    masks = generator.integers(0, CLASSES, shape).astype("uint8")
    return lambda: model.train_on_batch(images, masks)


def prediction(candidate: str) -> Callable[[], object]:
    """A prediction of one image."""
    from benchmarks.accuracy import comparison as accuracy
    from keras_exfuse import ExFuse, fuse_for_inference

    model = accuracy.build(candidate, CLASSES)
    if isinstance(model, ExFuse):
        model = fuse_for_inference(model)
    image = np.random.default_rng(0).uniform(0, 255, (1, 512, 512, 3)).astype("float32")
    return lambda: model.predict_on_batch(image)


JOBS = {"step": step, "prediction": prediction}


def rows_of(job: str, names: Sequence[str], rounds: int) -> list[dict]:
    """A row for each candidate, a few at a time beside the reference."""
    others = [name for name in names if name != REFERENCE]
    rows: list[dict] = []
    for first in range(0, len(others), TOGETHER):
        group = [REFERENCE, *others[first : first + TOGETHER]]
        command = ["-m", "benchmarks.accuracy.times", "--serve", job]
        candidates = [Candidate(name, [*command, name]) for name in group]
        found = measure(candidates, rounds, REFERENCE)
        rows += [{"job": job, **row} for row in (found[1:] if rows else found)]
    return rows


def main() -> None:
    """Parse; serve as a candidate, or measure all and write."""
    if sys.argv[1:2] == ["--serve"]:
        serve(JOBS[sys.argv[2]](sys.argv[3]), {})
        return
    from benchmarks.accuracy.comparison import CANDIDATES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=CANDIDATES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    rows = [row for job in JOBS for row in rows_of(job, arguments.candidates, arguments.rounds)]
    packages = ("keras", "tensorflow", "numpy")
    rows = [{**row, **about(packages, arguments.note)} for row in rows]
    for row in rows:
        print(
            f"{row['job']:<12}{row['candidate']:<34}{row['ms']:>9} ms {row[f'times_{REFERENCE}']:>7} "
            f"{row['peak_mb']:>6} MB"
        )
    if arguments.hardware:
        write_rows(RESULTS / f"accuracy_times_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
