"""Files that are either there as a whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def half_written(directory: Path) -> list[Path]:
    """What `replace_file` leaves in a directory when the process is killed while it writes."""
    return list(directory.glob(".*.part*"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file, or a directory, under a temporary name beside it, then rename it.

    Args:
        path: Where it is to be. What is there already is replaced, once the new one is complete.
        write: Writes to the path that it is given, which keeps the suffix, since Keras and PIL go by it.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        write(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    return path
