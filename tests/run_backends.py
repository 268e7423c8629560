"""Runs the test suite on TensorFlow, JAX and PyTorch, one after another, with one summary at the end.

Each backend gets a process of its own, since Keras picks its backend once, when it is imported. Tests marked
`backend_independent` run once, under TensorFlow. Arguments are handed on to pytest:

    python tests/run_backends.py tests/layers -k resize

With `--slow` first, it runs the tests marked `slow` instead of the others, one at a time.

Exits with 1 if any backend fails, collects nothing, or ends without a report.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


@dataclasses.dataclass
class Outcome:
    """What one backend's run came to."""

    backend: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)
    trouble: str = ""

    @property
    def good(self) -> bool:
        return not self.failed and not self.trouble


def main(arguments: list[str]) -> int:
    slow = arguments[:1] == ["--slow"]
    arguments = arguments[slow:]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [run_backend(backend, arguments, Path(folder), slow) for backend in BACKENDS]
    print_summary(outcomes)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def run_backend(backend: str, arguments: list[str], folder: Path, slow: bool = False) -> Outcome:
    """Runs pytest with one backend and reads its report."""
    print(f"\n=== {backend} ===", flush=True)
    report = folder / f"{backend}.xml"
    marker = "slow" if slow else "not slow"
    if backend != "tensorflow":
        marker += " and not backend_independent"
    # Two processes: most of the time goes into tracing and compiling graphs, on one core each.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0" if slow else "2",
        "--dist",
        "loadfile",  # A file's models, exports and servers are made once.
        "-m",
        marker,
        f"--junitxml={report}",
        *arguments,
    ]
    # PYTHONPATH: the checkout is what is tested, also where an older copy is installed.
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "PYTHONPATH": path,
    }
    start = time.monotonic()
    code = subprocess.run(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL).returncode
    outcome = read_report(backend, report)
    outcome.seconds = time.monotonic() - start
    if code == 5 or (code == 0 and not outcome.passed and not outcome.skipped):
        outcome.trouble = "no test was found"
    elif code and not outcome.failed and not outcome.trouble:
        outcome.trouble = f"pytest exited with {code}"
    return outcome


def read_report(backend: str, report: Path) -> Outcome:
    """Counts a JUnit file; an error in a fixture or while collecting counts as a failure."""
    outcome = Outcome(backend)
    if not report.exists():
        outcome.trouble = "pytest ended without a report"
        return outcome
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            outcome.failed += 1
            outcome.failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in outcomes:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


def print_summary(outcomes: list[Outcome]) -> None:
    print("\n=== summary ===")
    for outcome in outcomes:
        for failure in outcome.failures:
            print(f"FAILED {outcome.backend}: {failure}")
    for outcome in outcomes:
        print(
            f"{outcome.backend:<12}{outcome.passed:>5} passed {outcome.failed:>5} failed "
            f"{outcome.skipped:>5} skipped {outcome.seconds:>7.0f} s  {outcome.trouble}".rstrip()
        )
    passed, failed, skipped = (
        sum(getattr(outcome, kind) for outcome in outcomes) for kind in ("passed", "failed", "skipped")
    )
    # A backend that broke down without a failing test must not look like a success.
    failed += sum(1 for outcome in outcomes if outcome.trouble and not outcome.failed)
    print(f"tests: {passed} passed, {failed} failed, {skipped} skipped", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
