"""Many images of different sizes from disk to PNG files of labels: ours on each backend, and a plain loop in PyTorch.

    python -m benchmarks.inference.folder --images VOC2012/JPEGImages --hardware 2core_epyc
    python -m benchmarks.inference.folder --quick

Ours is the preset of ExFuse on EfficientNet-Lite0, as the command line runs it, by Keras on each backend and exported
for OpenVINO; the peer is DeepLabV3+ of segmentation_models.pytorch on the same backbone: read with pillow, normalize,
pad to 32, argmax, save. First all as loops in processes that are warm, in turns; then as what a user starts:
`keras-exfuse predict` and the peer's script, with the start of Python, the reading of the model and all compiling in
the time (writing the export is not). Writes `benchmarks/results/folder_HARDWARE.csv`. Without `--images` random JPEG
files of photographs' sizes are made.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.contest import Candidate, about, measure
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
BACKENDS = ("tensorflow", "jax", "torch")
# Keras computes nothing for them, and its backend numpy starts fastest.
ENGINES = ("library, OpenVINO", "library, OpenVINO float32")
SIZES = ((375, 500), (333, 500), (500, 375), (375, 500), (400, 500), (281, 500), (500, 333), (375, 500))
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow")


def make_images(folder: Path, number: int) -> Path:
    """Random JPEG files, soft as photographs are, so that decoding takes what it takes with them."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for index in range(number):
        height, width = SIZES[index % len(SIZES)]
        coarse = generator.integers(0, 256, (height // 16, width // 16, 3), "uint8")
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"image_{index:04}.jpg", quality=90)
    return folder


def contest(names: dict[str, list[str]], given: list[str], rounds: int, reference: str) -> list[dict]:
    """Rows of candidates, each on the backends named for it, beside the reference."""
    candidates = []
    for name, backends in names.items():
        for backend in backends:
            title = name if backend == "numpy" or name == reference else f"{name}, {backend}"
            command = ["-m", "benchmarks.inference.folder_candidates", name, *given]
            candidates.append(Candidate(title, command, {"KERAS_BACKEND": backend}))
            print(title, candidates[-1].facts, flush=True)
    return [described(row, reference) for row in measure(candidates, rounds, reference)]


def described(row: dict, reference: str) -> dict:
    """A row with images per second, under names that are the same whatever the reference is."""
    ratio = float(row.pop(f"times_{reference}"))
    low, high = row.pop(f"times_{reference}_quartiles").split()
    return {
        "candidate": row.pop("candidate"),
        "images_per_second": f"{int(row['files']) / float(row['ms']) * 1000:.2f}",
        "reference": reference,
        # Images per second, not seconds: more is better.
        "times_reference": f"{1 / ratio:.3f}",
        "times_reference_quartiles": f"{1 / float(high):.3f} {1 / float(low):.3f}",
        **row,
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder of JPEG files")
    parser.add_argument("--number", type=int, help="how many of them: 30, or 8 when quick")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--quick", action="store_true", help="few images on TensorFlow, under 2 minutes")
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    backends = ["tensorflow"] if arguments.quick else list(arguments.backends)
    number = arguments.number or (8 if arguments.quick else 30)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        images = arguments.images or make_images(Path(folder), number)
        given = [str(images.resolve()), str(number)]
        warm = {"library": backends, **{name: ["numpy"] for name in ENGINES}, "smp": ["torch"]}
        rows = contest(warm, given, rounds, "smp")
        started = {"command": backends, "command, OpenVINO": ["numpy"], "smp script": ["torch"]}
        rows += contest(started, given, min(rounds, 2), "smp script")
    rows = [{**row, **about(PACKAGES, arguments.note)} for row in rows]
    for row in rows:
        print(
            f"{row['candidate']:<24}{row['images_per_second']:>8} images/s "
            f"{row['times_reference']:>7} times {row['reference']:<11}{row['peak_mb']:>6} MB"
        )
    if arguments.hardware:
        write_rows(RESULTS / f"folder_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
