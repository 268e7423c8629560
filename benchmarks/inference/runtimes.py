"""One model in every inference engine: time, memory, size of the file, and how many labels are Keras's.

    python -m benchmarks.inference.runtimes --images VOC2012/JPEGImages --hardware 2core_epyc
    python -m benchmarks.inference.runtimes --quick

A uint8 image of 512x512 in, labels out, batch 1. The reference is the model as it was trained under Keras on
TensorFlow, labelled by `Predictor`. EfficientNet-Lite0 is the preset, with its trained weights; the weights of
ResNet-50 are drawn, so its labels are closer to ties than those of a trained model. Each engine is a process of its own
with as many threads as there are cores; they take turns. Writes `benchmarks/results/runtimes_HARDWARE.csv`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.contest import REPOSITORY, Candidate, about, measure
from benchmarks.inference.folder import make_images
from benchmarks.inference.runtime_candidates import ENGINES
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
REFERENCE = "Keras"
SLOW_TO_COMPILE = ("JAX, fused", "PyTorch, fused", "PyTorch, fused, compiled")
PACKAGES = ("keras", "tensorflow", "numpy")
NUMBERS = ("ms", "ms_quartiles", f"times_{REFERENCE}", f"times_{REFERENCE}_quartiles", "rounds", "peak_mb")


def write_images(source: Path | None, size: int, number: int, folder: Path) -> None:
    """`images.npy`: the first images of a folder, or random ones, resized."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as made:
        files = sorted((source or make_images(Path(made), number)).glob("*.jpg"))[:number]
        images = [Image.open(file).convert("RGB").resize((size, size)) for file in files]
    np.save(folder / "images.npy", np.stack([np.asarray(each) for each in images]))


def compare(names: list[str], backbone: str, folder: Path, rounds: int) -> list[dict]:
    """A row for each engine."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.inference.runtime_candidates",
        "prepare",
        backbone,
        str(folder),
    ]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    ready, rows = [], []
    for name in names:
        backend = ENGINES[name][3] or "tensorflow"
        arguments = ["-m", "benchmarks.inference.runtime_candidates", name, str(folder)]
        each = Candidate(name, arguments, {"KERAS_BACKEND": backend})
        print(name, each.facts, flush=True)
        if each.facts["failed"]:
            each.stop()
            rows.append({"candidate": name, **dict.fromkeys(NUMBERS, ""), **each.facts})
        else:
            ready.append(each)
    rows = [*measure(ready, rounds, REFERENCE), *rows]
    for row in rows:
        row["backbone"] = backbone
        row["megabytes"] = f"{size_of(folder / ENGINES[row['candidate']][2]) / 1e6:.1f}"
        row["agreement"] = "" if row["failed"] else f"{agreement(folder, row['candidate']):.5f}"
    return rows


def agreement(folder: Path, name: str) -> float:
    """Share of the pixels that have the reference's label."""
    return float(np.mean(np.load(folder / f"{name}.npy") == np.load(folder / f"{REFERENCE}.npy")))


def size_of(path: Path) -> int:
    """Bytes of a file, of a folder, or of a network and the weights beside it."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder of JPEG files")
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0", "resnet50"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="some of them, Keras among them")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--number", type=int, default=8, help="images whose labels are compared")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="Lite0, 3 rounds, under 2 minutes")
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    names = arguments.engines or [
        name for name in ENGINES if not (arguments.quick and name in SLOW_TO_COMPILE)
    ]
    backbones = arguments.backbones[:1] if arguments.quick else arguments.backbones
    rows: list[dict] = []
    for backbone in backbones:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_images(arguments.images, arguments.size, arguments.number, folder)
            rows += compare(names, backbone, folder, arguments.rounds or (3 if arguments.quick else 15))
    rows = [{"size": arguments.size, **row, **about(PACKAGES, arguments.note)} for row in rows]
    for row in rows:
        print(
            f"{row['backbone']:<20}{row['candidate']:<26}{row['ms']:>8} ms {row[f'times_{REFERENCE}']:>6} "
            f"{row['agreement']:>8} {row['megabytes']:>6} MB {row['peak_mb']:>6} MB {row['failed']}"
        )
    if arguments.hardware:
        write_rows(RESULTS / f"runtimes_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
