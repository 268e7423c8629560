"""A trained model in every export format: time, agreement with Keras on real images, and what int8 loses.

    python -m benchmarks.inference.export_formats MODEL.keras VOC_FOLDER

writes `benchmarks/results/export_formats_2core_epyc.csv` (`--output` for another machine), a row a format. Every
format is run by its own engine in a process without Keras; the first row is `keras_exfuse.Predictor`. They take
turns, so that all see the same disturbances, and the medians are compared. int8 is calibrated on images of the
training split.
"""

import argparse
import os
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.results_file import write_rows
from keras_exfuse import Predictor, export
from keras_exfuse.data import read_image, read_mask, voc_examples
from keras_exfuse.metrics import ConfusionMatrix, iou_per_class
from tests.export import engines

SIZES = ((256, 256), (375, 500), (512, 512))
# background, cat, cow, dog, horse, person, sheep: those that the animal-biased subset covers.
SEVEN_CLASSES = (0, 8, 10, 12, 13, 15, 17)
PACKAGES = {
    "keras": "keras",
    "savedmodel": "tensorflow",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
}


def main() -> None:
    arguments = read_arguments()
    model = keras.saving.load_model(arguments.model, compile=False)
    examples = voc_examples(arguments.data, "val")
    chosen = list(zip(examples.images, examples.masks, strict=True))[: arguments.images]
    images = {f"image_{number}": read_image(image) for number, (image, _) in enumerate(chosen)}
    masks = [read_mask(mask) for _, mask in chosen]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = voc_examples(arguments.data, "train").images
        files = write_formats(model, folder, samples, arguments.samples)
        labels = label_images(model, files, images, folder)
        seconds = take_turns(model, files, timing_images(images), arguments.rounds, folder)
        rows = [
            describe(name, file, labels, masks, seconds, model.output_shape[-1], arguments.rounds)
            for name, file in (("keras", Path(arguments.model)), *files.items())
        ]
    write_rows(arguments.output, rows)
    print(arguments.output.read_text())


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="a folder in VOC layout")
    parser.add_argument("--images", type=int, default=None, help="of the val split; all by default")
    parser.add_argument("--samples", type=int, default=100, help="of the train split, for the ranges of int8")
    parser.add_argument("--rounds", type=int, default=15)
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--output", type=Path, default=results / "export_formats_2core_epyc.csv")
    return parser.parse_args()


def engine_of(name: str) -> str:
    """The engine of a format: int8 is LiteRT's too."""
    return name.split("-")[0]


def write_formats(model, folder: Path, samples, num_samples: int) -> dict[str, Path]:
    """Each export once, as it comes by default."""
    return {
        "savedmodel": export.export_savedmodel(model, folder / "exfuse" / "1"),
        "onnx": export.export_onnx(model, folder / "exfuse.onnx"),
        "openvino": export.export_openvino(model, folder / "exfuse.xml"),
        "litert": export.export_litert(model, folder / "exfuse.tflite"),
        "litert-int8": export.export_litert_int8(
            model, folder / "int8.tflite", samples, num_images=num_samples
        ),
    }


def label_images(model, files, images, folder: Path) -> dict[str, list[np.ndarray]]:
    """Labels of every image at its own size, by each format."""
    batches = {name: image[None] for name, image in images.items()}
    labels = {"keras": list(Predictor(model)(list(images.values())))}
    for name, file in files.items():
        answered = engines.run(engine_of(name), file, batches, folder)
        labels[name] = [answered[image][0] for image in images]
    return labels


def timing_images(images) -> dict[str, np.ndarray]:
    """The first image, resized: times do not depend on what it shows."""
    from PIL import Image

    first = Image.fromarray(next(iter(images.values())))
    return {f"{h}x{w}": np.asarray(first.resize((w, h)))[None] for h, w in SIZES}


def take_turns(model, files, batches, rounds: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds of each format at each size, one after another in every round."""
    predictor = Predictor(model)

    class InThisProcess:
        def seconds(self, size):
            start = time.perf_counter()
            predictor(batches[size])
            return time.perf_counter() - start

        def stop(self):
            return None

    candidates = {"keras": InThisProcess()}
    for name, file in files.items():
        candidates[name] = engines.Timed(engine_of(name), file, batches, folder)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in candidates}
    for size in batches:
        for name, candidate in candidates.items():
            candidate.seconds(size)  # The first call of a size prepares for it.
            seconds[name][size] = []
        for _ in range(rounds):
            for name, candidate in candidates.items():
                candidate.seconds(size)  # Wakes it up after the others' turns.
                seconds[name][size].append(candidate.seconds(size))
    for candidate in candidates.values():
        candidate.stop()
    return seconds


def describe(name, file: Path, labels, masks, seconds, num_classes: int, rounds: int) -> dict[str, object]:
    """One row of the table."""
    counts = ConfusionMatrix(num_classes)
    for mask, found in zip(masks, labels[name], strict=True):
        counts.update_state(mask[None], found[None].astype("int32"))
    iou = iou_per_class(counts.counts())
    agreements = [np.mean(a == b) for a, b in zip(labels[name], labels["keras"], strict=True)]
    weights = [labels_.size for labels_ in labels["keras"]]
    row: dict[str, object] = {
        "format": name,
        "engine": f"{PACKAGES[engine_of(name)]} {version(PACKAGES[engine_of(name)])}",
        "megabytes": f"{size_of(file) / 1e6:.2f}",
        "agreement": f"{np.average(agreements, weights=weights):.6f}",
        "lowest_agreement": f"{min(agreements):.6f}",
        "images": len(masks),
        "mean_iou_7_classes": f"{np.nanmean(iou[list(SEVEN_CLASSES)]):.4f}",
        "mean_iou": f"{np.nanmean(iou):.4f}",
    }
    for size in seconds[name]:
        median = statistics.median(seconds[name][size])
        row[f"milliseconds_{size}"] = f"{1000 * median:.1f}"
        row[f"ratio_{size}"] = f"{median / statistics.median(seconds['keras'][size]):.2f}"
    return {**row, "rounds": rounds, "load_average": f"{os.getloadavg()[0]:.1f}", "cores": os.cpu_count()}


def size_of(path: Path) -> int:
    """Bytes of a file, of a folder, or of a network and the weights beside it."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


if __name__ == "__main__":
    main()
