"""How long it takes until something runs: importing the package, building a model, predicting for the first time.

    python -m benchmarks.networks.startup --hardware 2core_epyc
    python -m benchmarks.networks.startup --quick

Fresh processes, the backends in turns: `import keras` and, behind it in the same process, `import keras_exfuse`; and
`ExFuse(21)` (ResNet-50, drawn weights) with a first prediction of 512x512 and a second one. Medians. Writes
`benchmarks/results/startup_HARDWARE.csv`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.contest import REPOSITORY, about, quartiles
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
BEGIN = """
import json, time
start, seconds = time.perf_counter(), {}
def lap(name):
    global start
    seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
"""
PROGRAMS = {
    "import": "import keras; lap('import_keras'); import keras_exfuse; lap('import_keras_exfuse')",
    # Apart from the imports, which are measured more often.
    "build": """
import numpy, keras, keras_exfuse
image = numpy.zeros((1, 512, 512, 3), "float32")
start = time.perf_counter()
model = keras_exfuse.ExFuse(21)
lap("build")
model.predict_on_batch(image)
lap("first_prediction")
model.predict_on_batch(image)
lap("second_prediction")
""",
}


def seconds_of(program: str, backend: str) -> dict[str, float]:
    """What one fresh process measures."""
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    text = f"{BEGIN}\n{PROGRAMS[program]}\nprint(json.dumps(seconds))"
    result = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **quiet, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"A process under {backend} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def collect(rounds: dict[str, int], backends: list[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds of every step, by backend and step; backends take turns."""
    found: dict[str, dict[str, list[float]]] = {backend: {} for backend in backends}
    for program, number in rounds.items():
        # The first round fills the system's caches of files and does not count.
        for round_ in range(-1 if program == "import" else 0, number):
            for backend in backends:
                for step, seconds in seconds_of(program, backend).items():
                    if round_ >= 0:
                        found[backend].setdefault(step, []).append(seconds)
    return found


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--quick", action="store_true", help="one process of each kind")
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    rounds = {"import": 1, "build": 1} if arguments.quick else {"import": 7, "build": 3}
    rows = []
    for backend, steps in collect(rounds, list(arguments.backends)).items():
        row: dict = {"backend": backend}
        for step, seconds in steps.items():
            low, middle, high = quartiles(seconds)
            row |= {f"{step}_seconds": f"{middle:.3f}", f"{step}_quartiles": f"{low:.3f} {high:.3f}"}
        rows.append({**row, **{f"rounds_{key}": n for key, n in rounds.items()}})
        print(*(f"{name}={value}" for name, value in row.items() if "quartiles" not in name), flush=True)
    rows = [{**row, **about(PACKAGES, arguments.note)} for row in rows]
    if arguments.hardware:
        write_rows(RESULTS / f"startup_{arguments.hardware}.csv", rows)


if __name__ == "__main__":
    main()
