"""The start of the command `keras-exfuse`: no notes of TensorFlow's on the screen, no traceback for a missing backend.

In a process that is not the command, importing the package imports all of it, because that registers what
`keras.saving.load_model` needs. The command imports Keras and its backend when it needs them.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def is_command() -> bool:
    """Whether this process is `keras-exfuse`, or `python -m keras_exfuse`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # While Python looks for the module.
        following = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return following[:1] == ["keras_exfuse"]
    return Path(program).stem == "keras-exfuse"


def begin() -> None:
    """Before anything imports Keras: its backend will be silent."""
    # 3: also without the complaint that there is no GPU. What goes wrong is raised as an exception anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, _QuietTensorFlow())


def missing_backend(error: ImportError) -> str | None:
    """What to install if it is Keras's backend that could not be imported, else None."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if error.name != backend:
        return None
    return (
        f"The Keras backend {backend!r} is not installed. Install it with: pip install 'keras-exfuse[{backend}]', "
        "or choose one that is there: KERAS_BACKEND=tensorflow, jax or torch."
    )


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Imports TensorFlow without what it writes meanwhile: under other backends that is later, where data are read."""

    def __init__(self):
        self._searching = False

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module):
                with _held_back():
                    execute(module)

            loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Hold back what is written to standard error; show it only if the block fails.

    TensorFlow writes from C++, before any setting of its own takes effect, so the file descriptor is turned.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        saved = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            notes.seek(0)
            sys.stderr.write(notes.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
