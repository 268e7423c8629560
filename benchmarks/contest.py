"""Candidates in processes of their own that take turns, so that what else the machine does hits all alike.

A candidate is a command that calls `serve`. Its process tells what it is, waits, and does its work once for each
line it reads; nothing of one candidate, neither threads nor caches nor memory, is in another's way or account.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# As tables call them.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


# === In the process of a candidate ===


def serve(
    call: Callable[[], object],
    facts: dict,
    warm_up: int = 2,
    peak_bytes: Callable[[], int] | None = None,
) -> None:
    """Answer every line of the standard input with the seconds of one call; at its end with the peak of memory.

    Args:
        call: Does the work once and returns when it is done.
        facts: What is to be known about the candidate.
        warm_up: Calls before, which compile and fill caches; 0 for work that starts anew each time.
        peak_bytes: Another account of the peak of memory, for work that is done in processes of its own.
    """
    first = [_timed(call) for _ in range(warm_up)]
    _reset_peak()
    told = {"first_call_seconds": f"{first[0]:.2f}" if first else ""}
    print("ready", json.dumps({**facts, **told}), flush=True)
    for _ in sys.stdin:
        print("seconds", _timed(call), flush=True)
    print("ended", json.dumps({"peak_mb": round((peak_bytes or _peak_bytes)() / 1e6)}), flush=True)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _reset_peak() -> None:
    """Forget the peak of building and compiling; elsewhere than on Linux it is counted in."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# === In the process that measures ===


class Candidate:
    """A process that calls `serve`.

    Args:
        name: For the table.
        arguments: Of Python, as in `["-m", "benchmarks.networks.worker", ...]`.
        environment: Variables to set in it.
    """

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str] | None = None):
        self.name = name
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **quiet, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        # One is made ready after the other: while it compiles, nothing is measured.
        self.facts: dict = json.loads(self._answer("ready"))

    def seconds(self) -> float:
        """Do the work once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer("seconds"))

    def stop(self) -> dict:
        """End the process; what it says of its memory."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        last = json.loads(self._answer("ended"))
        self.process.wait(60)
        return last

    def _answer(self, kind: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # Libraries print, too.
            if line.startswith(f"{kind} "):
                return line.removeprefix(f"{kind} ").strip()
        raise RuntimeError(
            f"{self.name} ended before it was {kind}, with {self.process.wait(60)}; see above."
        )


def measure(candidates: list[Candidate], rounds: int, reference: str) -> list[dict]:
    """Let all take turns, stop them, and give a row for each.

    Args:
        candidates: Ready ones.
        rounds: How often each is timed. Before each time it works once untimed if that is quick: caches and
            threads went cold in the others' turns, for all of them.
        reference: The candidate that the ratios refer to, pair by pair within a round.

    Returns:
        Rows with median and quartiles of the milliseconds, of the ratios, and the facts.
    """
    seconds: dict[str, list[float]] = {each.name: [] for each in candidates}
    quick = {each.name: each.seconds() < 1 for each in candidates}
    for _ in range(rounds):
        for each in candidates:
            if quick[each.name]:
                each.seconds()
            seconds[each.name].append(each.seconds())
    rows = []
    for each in candidates:
        low, middle, high = quartiles([1000 * value for value in seconds[each.name]])
        pairs = zip(seconds[each.name], seconds[reference], strict=True)
        ratios = quartiles([ours / theirs for ours, theirs in pairs])
        rows.append(
            {
                "candidate": each.name,
                "ms": f"{middle:.1f}",
                "ms_quartiles": f"{low:.1f} {high:.1f}",
                f"times_{reference}": f"{ratios[1]:.3f}",
                f"times_{reference}_quartiles": f"{ratios[0]:.3f} {ratios[2]:.3f}",
                "rounds": rounds,
                **each.facts,
                **each.stop(),
            }
        )
    return rows


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def about(packages: tuple[str, ...], note: str) -> dict[str, object]:
    """Machine, versions and date, for the end of every row."""
    versions = " ".join(f"{name} {metadata.version(name)}" for name in packages)
    return {
        "machine": processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "note": note,
    }


def surroundings(row, script):
    """Machine, date and note of a table whose rows `about` signed."""
    note = f", {row['note']}" if row["note"] else ""
    return f"{row['machine']}, {row['cores']} cores{note}, {row['date']} (`benchmarks/{script}`)."


def processor() -> str:
    """The processor's name, as the system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
