"""Peak memory and time of `keras-exfuse predict` on a large GeoTIFF of four bands of 16 bits, in a process of its own.

    KERAS_BACKEND=tensorflow python -m benchmarks.inference.large_geotiff --hardware 2core_xeon

writes 12,000 x 9,000 pixels (864 MB of values), segments them with Lite0 for four bands, and adds a row to
`benchmarks/results/large_geotiff_HARDWARE.csv`. The peak is the command's largest resident size, everything included.
It fails above 2 GB, or if the labels do not lie where the image lies.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.results_file import read_rows, write_rows
from keras_exfuse import ExFuse

RESULTS = Path(__file__).parents[1] / "results"
LIMIT = 2e9
BANDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=12_000)
    parser.add_argument("--height", type=int, default=9_000)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--num-classes", type=int, default=21)
    parser.add_argument("--hardware", default="unnamed", help="what the file of results is called by")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = write_field(folder / "field.tif", arguments.height, arguments.width)
        model = ExFuse(arguments.num_classes, backbone="efficientnet_lite0", input_channels=BANDS)
        model.save(folder / "model.keras")
        command = [sys.executable, "-m", "keras_exfuse", "predict", str(folder / "field.tif")]
        command += ["--model", str(folder / "model.keras"), "--output", str(folder / "out")]
        command += [
            "--window",
            str(arguments.window),
            "--range",
            "0,10000",
            "--areas",
            str(folder / "areas.csv"),
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ)
        seconds = time.perf_counter() - start
        with rasterio.open(folder / "out" / "labels" / "field.tif") as labels:
            there = labels.shape, labels.crs, labels.transform
        if there != ((arguments.height, arguments.width), profile["crs"], profile["transform"]):
            raise RuntimeError(f"the labels lie elsewhere: {there}")
    # Linux counts in KiB. The command is the only child.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    row = {
        "backend": keras.backend.backend(),
        "width": arguments.width,
        "height": arguments.height,
        "bands": BANDS,
        "window": arguments.window,
        "num_classes": arguments.num_classes,
        "seconds": f"{seconds:.0f}",
        "peak_mb_of_the_process": round(peak / 1e6),
    }
    print(row)
    path = RESULTS / f"large_geotiff_{arguments.hardware}.csv"
    settings = [each for each in row if each not in ("seconds", "peak_mb_of_the_process")]
    kept = [each for each in read_rows(path) if any(each[name] != str(row[name]) for name in settings)]
    write_rows(path, [*kept, row])
    if peak > LIMIT:
        raise RuntimeError(f"the command took {peak / 1e9:.2f} GB")


def write_field(path: Path, height: int, width: int) -> dict:
    """A GeoTIFF of noise, row of blocks by row of blocks; its profile."""
    random = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": BANDS,
        "dtype": "uint16",
        "crs": rasterio.crs.CRS.from_epsg(32632),
        "transform": rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_400_000),
        "tiled": True,
        "BIGTIFF": "IF_SAFER",
    }
    with rasterio.open(path, "w", **profile) as image:
        for top in range(0, height, 256):
            rows = min(256, height - top)
            values = random.integers(0, 10_000, (BANDS, rows, width), "uint16")
            image.write(values, window=Window(0, top, width, rows))
    return profile


if __name__ == "__main__":
    main()
