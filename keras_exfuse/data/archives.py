"""Downloading and unpacking archives: checked, resumable, and never half-done."""

import dataclasses
import hashlib
import os
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from keras_exfuse._files import replace_file
from keras_exfuse.data.errors import DATA_ERROR

_CHUNK = 1 << 20
#: Called with the bytes that are done and the bytes in all (0 if that is not known).
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published archive and the numbers by which it is known.

    Args:
        name: File name.
        urls: Where it can be downloaded; tried in order. Empty if there is no open download.
        md5: Published MD5, or empty.
        sha256: Published SHA-256, or empty.
        size: Bytes, or 0 if not published.
    """

    name: str
    urls: tuple[str, ...] = ()
    md5: str = ""
    sha256: str = ""
    size: int = 0

    def check(self, path: str | os.PathLike[str], progress: Progress | None = None) -> None:
        """Check a file against the published hashes.

        Raises:
            ValueError: If it is another file; the text gives both hashes.
        """
        file = Path(path)
        found = file.stat().st_size
        if self.size and found != self.size:
            raise ValueError(
                f"{DATA_ERROR} {file}: expected {self.size} bytes, got {found}; the download is not complete, "
                "or this is another file. Remove it and download it again."
            )
        hashes = {name: hashlib.new(name) for name in ("md5", "sha256") if getattr(self, name)}
        done = 0
        with open(file, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                done += len(chunk)
                for state in hashes.values():
                    state.update(chunk)
                if progress:
                    progress(done, found)
        for name, state in hashes.items():
            if state.hexdigest() != getattr(self, name):
                raise ValueError(
                    f"{DATA_ERROR} {file}: expected {name} {getattr(self, name)}, got {state.hexdigest()}; "
                    "the file is damaged or another one. Remove it and download it again."
                )


def print_progress(what: str) -> Progress:
    """A progress bar of one line on the standard error stream; silent where that is not a terminal."""
    if not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        share = done / total if total else 0.0
        bar = "#" * int(30 * share)
        sys.stderr.write(f"\r{what} [{bar:<30}] {done / 1e6:.0f} of {total / 1e6:.0f} MB")
        if total and done >= total:
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show


def download(archive: Archive, folder: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """Download an archive and check it; an interrupted download goes on where it stopped.

    Args:
        archive: What to download.
        folder: Where to put it.
        progress: Called as bytes come in; a bar on the terminal if `None`.

    Returns:
        The path of the complete, checked file. A file that is there and right is not downloaded again.

    Raises:
        ValueError: If no address answers, or the file is not the published one.
    """
    target = Path(folder) / archive.name
    if target.exists():
        archive.check(target)
        return target
    if not archive.urls:
        raise ValueError(
            f"{DATA_ERROR} {archive.name} has no open download: get it from its publisher and put it into {folder}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    report = progress or print_progress(archive.name)
    problems = []
    for url in archive.urls:
        try:
            _fetch(url, part, report)
            break
        except (urllib.error.URLError, OSError) as error:
            problems.append(f"{url}: {error}")
    else:
        raise ValueError(f"{DATA_ERROR} {archive.name} could not be downloaded. " + "; ".join(problems))
    try:
        archive.check(part)
    except ValueError:
        part.unlink()  # Going on from a wrong file would never end.
        raise
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Append what is missing of `url` to `part`."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # Nothing is missing.
            error.close()
            return
        raise
    with response:
        if done and response.status != 206:  # The server cannot go on in the middle.
            done = 0
        total = done + int(response.headers.get("Content-Length") or 0)
        with open(part, "ab" if done else "wb") as stream:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total > done:
        raise OSError(f"the connection ended after {done} of {total} bytes; call again to go on")


def extract_tar(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Unpack a tar archive into a new folder, or not at all.

    Args:
        archive: A .tar, .tgz or .tar.gz.
        folder: The folder to make. If it is there, nothing is done.

    Returns:
        The folder.

    Raises:
        ValueError: If the archive is broken, or a member is absolute, leads out of the folder by "..", or is a link
            or a device; the text names it. Nothing is written then.
    """
    target = Path(folder)
    if target.exists():
        return target

    def unpack(temporary: Path) -> None:
        temporary.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    _check_member(member, archive)
                    if hasattr(tarfile, "data_filter"):
                        tar.extract(member, temporary, filter="data")
                    else:  # Python 3.11.0 to 3.11.3
                        tar.extract(member, temporary)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"{DATA_ERROR} {archive}: cannot be unpacked ({error}).") from error

    return replace_file(target, unpack)


def _check_member(member: tarfile.TarInfo, archive: str | os.PathLike[str]) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or (path.parts and path.parts[0].endswith(":")):
        problem = "has an absolute path"
    elif ".." in path.parts:
        problem = "leads out of the folder"
    elif member.issym() or member.islnk():
        problem = "is a link"
    elif not (member.isfile() or member.isdir()):
        problem = "is neither a file nor a folder"
    else:
        return
    raise ValueError(
        f"{DATA_ERROR} {archive}: the member {member.name!r} {problem}; the archive is not safe to unpack, "
        "and nothing was unpacked."
    )
