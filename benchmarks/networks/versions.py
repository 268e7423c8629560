"""Two versions of this package side by side in one run: does a change cost time?

    git worktree add ../before COMMIT
    python -m benchmarks.networks.versions ../before --backend jax --hardware 2core_xeon

Both predict and train with ExFuse's defaults on ResNet-50 at 512x512 and on EfficientNet-Lite0 at 256x256, each in a
process of its own, in turns. Only what both versions have may be named here. Writes
`benchmarks/results/versions_HARDWARE.csv`.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.contest import BACKENDS, REPOSITORY, Candidate, about, measure, serve, surroundings
from benchmarks.results_file import read_rows, write_rows

RESULTS = Path(__file__).parents[1] / "results"
NUM_CLASSES = 21
# Name: backbone, side, images of a batch, whether it trains.
CASES = {
    "ResNet-50, 512, prediction": ("resnet50", 512, 1, False),
    "ResNet-50, 512, training": ("resnet50", 512, 2, True),
    "Lite0, 256, prediction": ("efficientnet_lite0", 256, 1, False),
    "Lite0, 256, training": ("efficientnet_lite0", 256, 8, True),
}


def work(case: str) -> None:
    """Serve one case with whichever version is found first."""
    import keras

    import keras_exfuse

    backbone, side, batch, training = CASES[case]
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (batch, side, side, 3)).astype("float32")
    masks = random.integers(0, NUM_CLASSES, (batch, side, side)).astype("uint8")
    model = keras_exfuse.ExFuse(NUM_CLASSES, backbone)
    facts = {"package": str(Path(keras_exfuse.__file__).parents[1])}
    if training:
        model.compile(optimizer=keras.optimizers.AdamW(1e-4), metrics=[])
        serve(lambda: model.train_on_batch(images, masks), facts)
    else:
        model = keras_exfuse.fuse_for_inference(model)
        serve(lambda: model.predict_on_batch(images), facts)


def candidate(name: str, checkout: Path, case: str, backend: str, shelf: Path) -> Candidate:
    """One case with the package of a checkout, and the benchmarks of this one."""
    shelf.mkdir()
    # By themselves: a checkout has benchmarks of its own as well.
    (shelf / "keras_exfuse").symlink_to(checkout.resolve() / "keras_exfuse")
    (shelf / "benchmarks").symlink_to(REPOSITORY / "benchmarks")
    path = os.pathsep.join(filter(None, [str(shelf), os.environ.get("PYTHONPATH")]))
    # A file, not a module: Python would look for packages in the working directory first.
    arguments = [str(Path(__file__)), "--serve", case]
    made = Candidate(name, arguments, {"KERAS_BACKEND": backend, "PYTHONPATH": path})
    found = made.facts.pop("package")
    assert Path(found) == shelf, f"{name} took {found}, not {shelf}."
    return made


def compare(checkout: Path, case: str, backend: str, rounds: int) -> list[dict]:
    """The rows of one case."""
    with tempfile.TemporaryDirectory() as folder:
        shelves = {"after": REPOSITORY, "before": checkout}
        candidates = [
            candidate(name, place, case, backend, Path(folder) / name) for name, place in shelves.items()
        ]
        rows = measure(candidates, rounds, "before")
    commits = {name: _commit(place) for name, place in shelves.items()}
    return [{"case": case, "backend": backend, "commit": commits[row["candidate"]], **row} for row in rows]


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def table(rows: list[dict[str, str]]) -> str:
    """This version's time as a multiple of an earlier one's."""
    lines = ["| case | backend | before | after | times before | quartiles |", "|---|---|---|---|---|---|"]
    before = {(row["case"], row["backend"]): row for row in rows if row["candidate"] == "before"}
    for row in rows:
        if row["candidate"] == "after":
            old = before[row["case"], row["backend"]]
            low, high = row["times_before_quartiles"].split()
            lines.append(
                f"| {row['case']} | {BACKENDS[row['backend']]} | {float(old['ms']):.0f} ms | {float(row['ms']):.0f} ms "
                f"| {float(row['times_before']):.2f} | {float(low):.2f} to {float(high):.2f} |"
            )
    old = next(iter(before.values()))
    return "\n".join(
        [*lines, "", f"Before: commit {old['commit']}. {surroundings(old, 'networks/versions.py')}"]
    )


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, nargs="?", help="another checkout of this repository")
    parser.add_argument("--backend", choices=BACKENDS, default="tensorflow")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--hardware", help="names the CSV; without it the rows are printed only")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    parser.add_argument("--serve", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        work(arguments.serve)
        return
    if arguments.checkout is None:
        parser.error("expected another checkout of this repository")
    notes = about(tuple(dict.fromkeys(("keras", arguments.backend, "numpy"))), arguments.note)
    for case in arguments.cases:
        rows = compare(arguments.checkout, case, arguments.backend, arguments.rounds)
        for row in rows:
            print(case, row["candidate"], row["ms"], json.dumps(row["times_before"]), flush=True)
        if arguments.hardware:
            path = RESULTS / f"versions_{arguments.hardware}.csv"
            kept = [
                row for row in read_rows(path) if (row["case"], row["backend"]) != (case, arguments.backend)
            ]
            write_rows(path, [*kept, *({**row, **notes} for row in rows)])


if __name__ == "__main__":
    main()
