"""TensorFlow writes every format, whatever backend trained the model.

Under JAX and PyTorch the model is saved, and a process of its own loads it under TensorFlow. Weights carry over
exactly, results within rounding.
"""

import errno
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_exfuse._files import is_disk_full, replace_file
from keras_exfuse._optional import require

# What starts the text of an error in the other process, before its type and text.
ERROR = "keras_exfuse export error: "
# What of it is raised again where the user is: his mistakes, and a full disk.
_KINDS: dict[str, Callable[[str], Exception]] = {
    "ImportError": ImportError,
    "ValueError": ValueError,
    "full disk": lambda text: OSError(errno.ENOSPC, text),
}


def write_under_tensorflow(writer: str, model: keras.Model, path: Path, options: dict[str, Any]) -> None:
    """Call a writer here if TensorFlow is the backend, else in another process.

    Args:
        writer: `"module:function"` of this folder, called as `function(model, path, **options)`.
        model: The model to write.
        path: Where to.
        options: Keyword arguments that JSON can carry.

    Raises:
        ImportError: If something to be installed is missing.
        OSError: If the disk is full.
        RuntimeError: If the other process failed; the text is what it said.
    """
    require("tensorflow", extra="export")
    if keras.backend.backend() == "tensorflow":
        _call(writer, model, path, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"
        replace_file(saved, model.save)
        # The other process must find this very package, also where it is not installed.
        places = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": places}
        program = "from keras_exfuse.export import tensorflow_process; tensorflow_process.main()"
        command = [sys.executable, "-c", program, writer, str(saved), str(path), json.dumps(options)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith(ERROR)]
        if lines:
            kind, text = json.loads(lines[-1].removeprefix(ERROR))
            raise _KINDS[kind](text)
        raise RuntimeError(f"The export under TensorFlow failed:\n{result.stderr}")


def main() -> None:
    """The other process: `writer`, the saved model, the path and the options stand in `sys.argv`."""
    writer, saved, path, options = sys.argv[1:]
    try:
        _call(writer, keras.saving.load_model(saved, compile=False), Path(path), json.loads(options))
    except Exception as error:
        if is_disk_full(error):
            kind = "full disk"
        elif isinstance(error, (ImportError, ValueError)):
            kind = "ImportError" if isinstance(error, ImportError) else "ValueError"
        else:
            raise
        sys.exit(ERROR + json.dumps([kind, str(error)]))


def _call(writer: str, model: keras.Model, path: Path, options: dict[str, Any]) -> None:
    module, function = writer.split(":")
    getattr(importlib.import_module(f"keras_exfuse.export.{module}"), function)(model, path, **options)
