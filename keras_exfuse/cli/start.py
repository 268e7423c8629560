"""The start of the command `keras-exfuse`: no notes of TensorFlow's on the screen, no traceback for a missing backend.

Importing any part of the package imports Keras and its backend, so the package imports this module first. In a process
that is not the command it does nothing. Lazy imports in the package would give the command its time, too, but then
`import keras_exfuse` would no longer register what `keras.saving.load_model` needs to load the package's models.
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
    """Import Keras; exit with a line that says what to install if its backend is missing."""
    # 3: also without the complaint that there is no GPU. What goes wrong is raised as an exception anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, _QuietTensorFlow())
    try:
        import keras  # noqa: F401
    except ImportError as error:
        sys.exit(_what_to_install(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _what_to_install(error: ImportError) -> str:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if error.name == backend:
        return (
            f"The Keras backend {backend!r} is not installed. Install it with: pip install 'keras-exfuse[{backend}]', "
            "or choose one that is there: KERAS_BACKEND=tensorflow, jax or torch."
        )
    return str(error)


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


if is_command():
    begin()
