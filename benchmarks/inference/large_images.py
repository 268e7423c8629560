"""Peak memory and time of `Predictor` on one large image, in a process of its own.

    KERAS_BACKEND=tensorflow python -m benchmarks.inference.large_images --size 10000 --hardware 2core_xeon

The peak is the process's largest resident size, everything included: Python, the backend, the model, the image as
uint8 (300 MB for 10,000 x 10,000) and its labels. The goal is less than 2 GB for 10,000 x 10,000 with Lite0.
"""

import argparse
import resource
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.results_file import read_rows, write_rows
from keras_exfuse import ExFuse, Predictor, fuse_for_inference

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10_000, help="height and width in pixels")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--stride", type=int, default=448)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--hardware", default="unnamed", help="what the file of results is called by")
    arguments = parser.parse_args()
    model = fuse_for_inference(ExFuse(21, backbone=arguments.backbone))
    image = np.random.default_rng(0).integers(0, 256, (arguments.size, arguments.size, 3), "uint8")
    predictor = Predictor(
        model, window=arguments.window, stride=arguments.stride, batch_size=arguments.batch_size
    )
    start = time.perf_counter()
    labels = predictor(image)
    seconds = time.perf_counter() - start
    if labels.shape != image.shape[:2]:
        raise RuntimeError(f"labels of shape {labels.shape} for an image of shape {image.shape}")
    row = {
        "backend": keras.backend.backend(),
        "backbone": arguments.backbone,
        "size": arguments.size,
        "window": arguments.window,
        "stride": arguments.stride,
        "batch_size": arguments.batch_size,
        "seconds": f"{seconds:.0f}",
        # Linux counts in KiB.
        "peak_mb_of_the_process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }
    print(row)
    _add_row(RESULTS / f"large_images_{arguments.hardware}.csv", row)


def _add_row(path: Path, row: dict) -> None:
    """Add to what was measured before, or replace it where the settings are the same."""
    settings = [each for each in row if each not in ("seconds", "peak_mb_of_the_process")]
    kept = [each for each in read_rows(path) if any(each[name] != str(row[name]) for name in settings)]
    write_rows(path, [*kept, row])


if __name__ == "__main__":
    main()
