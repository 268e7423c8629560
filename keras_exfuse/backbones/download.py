"""Public weight files: fetched once over HTTPS, checked against their published hash, kept in Keras's home."""

import hashlib
import os
import re
import urllib.request
from pathlib import Path

import keras

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Keras's home (`KERAS_HOME`, or `~/.keras`), folder `keras_exfuse`."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home) / "keras_exfuse"


def published_hash(url: str) -> str:
    """The start of the SHA-256 that torchvision and timm write at the end of a file's name."""
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", url)
    if not match:
        raise ValueError(f"The address {url} does not carry the start of its file's SHA-256.")
    return match[1]


def download_weights(url: str) -> Path:
    """Fetch a public weight file, or find it in the cache.

    Args:
        url: its address; the file's name ends in the start of its SHA-256.

    Returns:
        The path of the file in the cache; its hash has been checked.

    Raises:
        ConnectionError: there is no network; the text says how to go on without one.
        ValueError: what came does not have the published hash; nothing is kept.
    """
    path = cache_folder() / url.rpartition("/")[2]
    if path.is_file() and _sha256(path).startswith(published_hash(url)):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        _fetch(url, partial)
        found = _sha256(partial)
        if not found.startswith(published_hash(url)):
            raise ValueError(
                f"The file from {url} has the SHA-256 {found}, expected one that starts with "
                f"{published_hash(url)}: it was damaged or changed on the way, and is not used. Try again, or "
                "pass the path of a file you trust as the backbone's weights."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _fetch(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, open(path, "wb") as file:
            print(f"Downloading {url}")
            progress = keras.utils.Progbar(int(answer.headers.get("Content-Length") or 0) or None)
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                progress.add(len(chunk))
    except OSError as error:  # urllib's own errors are of this kind
        raise ConnectionError(
            f"The weights at {url} could not be downloaded ({error}). Without a network, fetch that file on "
            "another machine and pass its path instead of 'imagenet', for example "
            f"backbone_weights='/path/to/{path.name.partition('.pth')[0]}.pth'."
        ) from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
