"""A command leaves the terminal as it found it, however it ends: seen through a pseudo-terminal."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from keras_exfuse.cli.demonstration import synthetic
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
        # A shell ignores Ctrl-C in what it starts in the background, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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

    Gives these words, without their colors.
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
    assert (
        "Interrupted by Ctrl-C: the state after step" in end
        and f"keras-exfuse train --resume --output {tmp_path / 'run'}" in end
    )
    assert "Traceback" not in written


def test_a_nan_loss(data, tmp_path):
    code, written = on_terminal(data, "nan", *training(data, tmp_path))
    end = assert_left_as_found(written)
    assert code == 2 and "Error: NaN loss at step 1" in end, written
    assert "Traceback" not in written


def test_sigterm_in_training_and_resume(data, tmp_path):
    """As a scheduler sends it, to a process without a terminal."""
    arguments = [str(part) for part in training(data, tmp_path)]
    command = [sys.executable, "-c", PROGRAM.replace("fcntl.ioctl(0, termios.TIOCSCTTY, 0)", ""), "long"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(
        [*command, *arguments], env={**environment(data), "PYTHONUNBUFFERED": "1"}, **pipes
    )
    assert "step 1 of 100000" in child.stdout.readline()
    child.terminate()
    _, err = child.communicate(timeout=120)
    assert child.returncode == 143, err
    assert "Interrupted by SIGTERM: the state after step" in err and "train --resume" in err
    assert "Traceback" not in err
    resumed = [*command, "train", "--resume", "--output", str(tmp_path / "run"), "--set", "jit=false"]
    result = subprocess.run(resumed, env=environment(data), timeout=120, **pipes)
    assert result.returncode == 2 and "jit was None, is False" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_an_error_at_an_image(data, tmp_path, command):
    """Reading in threads, with a bar of its own."""
    from tests.cli.test_cli_predict import pixelwise

    model = pixelwise(tmp_path / "model.keras", 5)
    what = ["--data", data] if command == "evaluate" else [data / "JPEGImages", "--output", tmp_path / "out"]
    code, written = on_terminal(data, "broken", command, "--model", model, *what)
    end = assert_left_as_found(written)
    assert code == 2 and "Error: the model is broken" in end
