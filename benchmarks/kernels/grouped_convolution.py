"""Training steps of grouped convolutions on a CPU, against what they have to be measured by.

Two comparisons, each alternating its two candidates so that both see the same disturbances:

- a step of the ResNeXt-101 32x4d backbone against one of ResNet-101's, of equal published cost
  (the bound: at most 3 times on TensorFlow and torch, 6 times on JAX);
- a step of one `GroupedConvolution` layer against Keras's own `Conv2D(groups=32)`
  (the bound: at least 30 times faster on TensorFlow and JAX).

    python -m benchmarks.kernels.grouped_convolution --output benchmarks/results/grouped_convolution_MACHINE.csv

Each backend runs in a process of its own. Besides the wall clock it counts the process's own CPU seconds,
which say more than the clock when other programs share the cores. The first step, which compiles, is not
counted. Rows of backends that were not asked for are kept.
"""

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BACKENDS = ("tensorflow", "jax", "torch")
COLUMNS = (
    "backend, comparison, candidate, batch, size, steps, first_step_seconds, median_step_seconds, "
    "median_cpu_seconds, ratio_seconds, ratio_cpu_seconds, load_average, cores, versions"
).split(", ")


def backbone_step(name: str, batch: int, size: int):
    """A function that trains a backbone for one step."""
    import keras
    import numpy as np

    from keras_exfuse.backbones import create_backbone

    backbone = create_backbone(name)
    pooled = [keras.layers.GlobalAveragePooling2D()(level) for level in backbone.output]
    output = keras.layers.Dense(1)(keras.layers.Concatenate()(pooled))
    return training_step(keras.Model(backbone.input, output), np.zeros((batch, size, size, 3), "float32"))


def layer_step(layer_class, batch: int, size: int):
    """A function that trains one layer, 256 channels in 32 groups, for one step."""
    import keras
    import numpy as np

    image = keras.Input((size, size, 256))
    x = layer_class(256, 3, groups=32, padding="same", use_bias=False)(image)
    output = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x))
    return training_step(keras.Model(image, output), np.ones((batch, size, size, 256), "float32"))


def training_step(model, images):
    import keras
    import numpy as np

    model.compile(optimizer=keras.optimizers.SGD(1e-4), loss="mse")
    targets = np.zeros((len(images), 1), "float32")
    return lambda: float(model.train_on_batch(images, targets))


def measure(comparison: str, candidates: dict, batch: int, size: int, steps: int) -> list[dict]:
    """Run the candidates in turn; the ratios are to the first of them."""
    import keras
    import numpy as np

    first, walls, processors = {}, {name: [] for name in candidates}, {name: [] for name in candidates}
    for name, step in candidates.items():
        start = time.perf_counter()
        step()
        first[name] = time.perf_counter() - start
    for _ in range(steps):
        for name, step in candidates.items():
            start, start_processor = time.perf_counter(), time.process_time()
            step()
            walls[name].append(time.perf_counter() - start)
            processors[name].append(time.process_time() - start_processor)
    reference = next(iter(candidates))
    rows = []
    for name in candidates:
        wall, processor = statistics.median(walls[name]), statistics.median(processors[name])
        rows.append(
            {
                "backend": keras.backend.backend(),
                "comparison": comparison,
                "candidate": name,
                "batch": batch,
                "size": size,
                "steps": steps,
                "first_step_seconds": f"{first[name]:.2f}",
                "median_step_seconds": f"{wall:.4f}",
                "median_cpu_seconds": f"{processor:.4f}",
                "ratio_seconds": f"{wall / statistics.median(walls[reference]):.2f}",
                "ratio_cpu_seconds": f"{processor / statistics.median(processors[reference]):.2f}",
                "load_average": f"{os.getloadavg()[0]:.1f}",
                "cores": os.cpu_count(),
                "versions": f"keras {keras.__version__} {version(keras.backend.backend())} "
                f"numpy {np.__version__} python {platform.python_version()}",
            }
        )
    return rows


def version(backend: str) -> str:
    from importlib import metadata

    return f"{backend} {metadata.version(backend)}"


def run_backend(arguments) -> list[dict]:
    import keras

    from keras_exfuse.layers.grouped_convolution import GroupedConvolution

    batch, size = arguments.batch, arguments.size
    rows = []
    if "layer" in arguments.comparisons:
        candidates = {
            "GroupedConvolution": layer_step(GroupedConvolution, 1, 32),
            "keras.layers.Conv2D": layer_step(keras.layers.Conv2D, 1, 32),
        }
        rows += measure("layer", candidates, 1, 32, arguments.steps)
    if "backbone" in arguments.comparisons:
        names = ("resnet101", "resnext101_32x4d")
        candidates = {name: backbone_step(name, batch, size) for name in names}
        rows += measure("backbone", candidates, batch, size, arguments.steps)
    return rows


def write(rows: list[dict], path: Path) -> None:
    """Rows already in the file stay, except where there are new ones of the same comparison."""
    kept = []
    if path.exists():
        new = {(row["backend"], row["comparison"]) for row in rows}
        with open(path, newline="") as file:
            kept = [row for row in csv.DictReader(file) if (row["backend"], row["comparison"]) not in new]
    everything = sorted(kept + rows, key=lambda row: (row["comparison"], BACKENDS.index(row["backend"])))
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(everything)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV file, with the hardware in its name")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument(
        "--comparisons", nargs="+", choices=("layer", "backbone"), default=("layer", "backbone")
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=128, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        rows = run_backend(arguments)
        write(rows, arguments.output)
        for row in rows:
            print(*(f"{key}={row[key]}" for key in COLUMNS[:11]))
        return
    for backend in arguments.backends:
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
