"""A command leaves the terminal as it found it, however it ends: seen through a pseudo-terminal."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.cli.progress import TrainingProgress
from tests.training.small_run import environment

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
pytestmark = pytest.mark.backend_independent

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
# The command line with a small model. Its first lines make the pseudo-terminal the one that sends Ctrl-C.
PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from keras_exfuse import cli
from keras_exfuse.inference import predictor
from keras_exfuse.training import Recipe
from tests.training.small_run import Small

class Poisoned(Small):
    def call(self, *arguments, **options):
        return super().call(*arguments, **options) * float("nan")

def broken(self, model, images):
    raise ValueError("the model is broken")

kind = sys.argv.pop(1)
Recipe.build_model = lambda self: (Poisoned if kind == "nan" else Small)(5)
if kind == "broken":
    predictor.Predictor._run = broken
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("voc"), train=4, val=2)


def on_terminal(data, kind, *arguments, interrupt_after=None):
    """Exit code and all that a command wrote; Ctrl-C is typed when what is awaited has appeared."""
    master, slave = pty.openpty()
    before = termios_of(slave)
    command = [sys.executable, "-c", PROGRAM, kind, *map(str, arguments)]
    child = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment(data), "TERM": "xterm", "COLUMNS": "200"},
        start_new_session=True,
    )
    written, interrupted = "", interrupt_after is None
    deadline = time.monotonic() + 240
    os.set_blocking(master, False)
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        try:
            written += os.read(master, 65536).decode(errors="replace")
        except BlockingIOError:
            if ended:
                break
            time.sleep(0.05)
        if not interrupted and re.search(interrupt_after, written):
            os.write(master, b"\x03")
            interrupted = True
    child.kill()
    code = child.wait()
    assert termios_of(slave) == before
    os.close(master)
    os.close(slave)
    return code, written


def termios_of(terminal):
    import termios

    return termios.tcgetattr(terminal)


def assert_left_as_found(written):
    """The cursor is shown again, and from then on there are words only: no bar, nothing hidden or erased.

    Gives these words, without their colours.
    """
    assert HIDE in written, written
    end = written.rpartition(SHOW)[2]
    assert len(end) < len(written), written
    assert HIDE not in end and "\x1b[2K" not in end and "\x1b[1A" not in end and "━" not in end
    return re.sub(r"\x1b\[[\d;]*m", "", end)


def training(data, tmp_path):
    options = {
        "--data": data,
        "--output": tmp_path / "run",
        "--steps": 100_000,
        "--crop": 32,
        "--batch-size": 2,
    }
    options |= {"--set": "tensorboard=false", "--num-classes": 5}
    return "train", *[part for option in options.items() for part in option]


def test_ctrl_c_in_training(data, tmp_path):
    code, written = on_terminal(data, "long", *training(data, tmp_path), interrupt_after=r"\d/100000")
    end = assert_left_as_found(written)
    assert code == 130, written
    assert "Interrupted" in end and f"keras-exfuse train --resume --output {tmp_path / 'run'}" in end
    assert "Traceback" not in written


def test_a_nan_loss(data, tmp_path):
    code, written = on_terminal(data, "nan", *training(data, tmp_path))
    end = assert_left_as_found(written)
    assert code == 2 and "Error: NaN loss at step 1" in end, written
    assert "Traceback" not in written


def test_ctrl_c_stops_after_the_step_and_the_second_at_once():
    progress = TrainingProgress(Console(file=io.StringIO()))
    progress.set_params({"epochs": 1, "steps": 9})
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), progress:
        progress.on_train_begin()
        progress.on_train_batch_end(0, {"loss": 1.0})
        signal.raise_signal(signal.SIGINT)
        for end_of_step in (progress.on_train_batch_end, progress.on_test_batch_end):
            with pytest.raises(KeyboardInterrupt):
                end_of_step(1, {"loss": 1.0})
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_an_error_at_an_image(data, tmp_path, command):
    """Reading in threads, with a bar of its own."""
    from tests.cli.test_cli_predict import pixelwise

    model = pixelwise(tmp_path / "model.keras", 5)
    what = ["--data", data] if command == "evaluate" else [data / "JPEGImages", "--output", tmp_path / "out"]
    code, written = on_terminal(data, "broken", command, "--model", model, *what)
    end = assert_left_as_found(written)
    assert code == 2 and "Error: the model is broken" in end
