"""Files that are either there as a whole or not at all; full disks; plain data that are read with the file's name."""

import contextlib
import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


class DiskFullError(OSError):
    """A disk is full; the text says what was not written, and what to do."""

    def __init__(self, text: str):
        super().__init__(errno.ENOSPC, text)

    def __str__(self) -> str:
        return self.strerror or ""


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk (or quota) is behind an error.

    TensorFlow's and torch's writers have errors of their own, with the system's words in them; closing a file after the
    first error often raises a second one.
    """
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(seen) for words in ("No space left on device", "Disk quota exceeded")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Says in one sentence what a full disk means for a file or directory that is being written.

    Args:
        path: Where it is to be.

    Raises:
        DiskFullError: In the place of an error that says only "No space left on device".
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"The disk of {path.parent} is full: {path.name} was not written. Make room, or choose another place, and "
            "repeat this."
        ) from error


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

    Raises:
        DiskFullError: If the disk is full. What was there is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    old = path.with_name(f".{path.stem}.{os.getpid()}.old.part")
    try:
        with full_disk_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            if path.is_dir():  # No system replaces one that is not empty; it goes when the new one is there.
                os.replace(path, old)
            os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: If it is something else; the text names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold a JSON object {{...}}; it holds {str(content)[:40]!r}.")
    return content


def check_expansion(path: Path) -> None:
    """Refuse a zip archive that is made to fill the memory of who reads it.

    Raises:
        ValueError: If its members are more than 100 times as large as the file, and 100 MB.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    there = path.stat().st_size
    if size > 100 * there + 100_000_000:
        raise ValueError(
            f"{path} would take {size / 1e6:.0f} MB of memory, out of {there / 1e6:.1f} MB on disk. No model is like "
            "that; it was not read."
        )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz file. Objects are pickles, which can be any program, and are refused.

    Raises:
        ValueError: If it is damaged, or holds more than arrays of numbers; the text names the file and the array.
    """
    arrays, name = {}, None
    try:
        check_expansion(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged, or not a .npz file: {error}.") from error
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
                if not isinstance(arrays[name], np.ndarray):  # What does not look like one comes as bytes.
                    raise ValueError("it is no array")
    except Exception as error:  # zipfile and numpy raise whatever the bytes lead them to.
        what = f"{path}: the array {name!r}"
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{what} holds Python objects, which can be any program. They were not read: only arrays of "
                "numbers are."
            ) from error
        raise ValueError(f"{what} is damaged: {error}") from error
    return arrays
