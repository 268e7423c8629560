"""Records: a data set checked once and written for fast reading, as sharded TFRecord files with an index.

The files are TFRecords of `tf.train.Example` that any reader understands. The index says where in them the
pixels of each example begin, so that this package's own reader takes them out in any order without going
through the rest: reading an example is a copy.
"""

import collections
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._files import read_json, replace_file
from keras_exfuse._optional import require
from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples
from keras_exfuse.data.masks import MaskFormat
from keras_exfuse.data.noticing import warn_of_labels
from keras_exfuse.data.order import EpochOrder
from keras_exfuse.data.pairs import checked_pair
from keras_exfuse.data.pipeline import Reader, assemble
from keras_exfuse.data.reading import decode_image

# What a TFRecord puts around each record: length and its checksum before, checksum behind.
_BEFORE, _BEHIND = 12, 4
_MANIFEST = "records.json"


def write_records(
    examples: Examples,
    folder: str | os.PathLike[str],
    *,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    pixels: str = "raw",
    num_files: int | None = None,
    on_error: str = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Check every example and write all of them into a new folder of records, or nothing.

    Args:
        examples: What to write.
        folder: The folder to make.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        class_names: Names of the classes to note; those of the examples if `None`.
        pixels: `"raw"` stores decoded pixels: four bytes a pixel, the fastest to read. `"encoded"` stores the
            files as they are: small, and no faster than files on a local disk.
        num_files: Number of files; one for about 200 MB of raw pixels if `None`.
        on_error: `"raise"` stops at a bad example, `"skip"` leaves it out.
        progress: Called with the examples done and in all.

    Returns:
        Reason by name for the examples that were left out.

    Raises:
        ValueError: If the folder is there, or an example is bad; the text names the file.
    """
    tf = require("tensorflow", extra="data")
    target = Path(folder)
    if target.exists():
        raise ValueError(f"{DATA_ERROR} {target} is already there; remove it or choose another folder.")
    if pixels not in ("raw", "encoded"):
        raise ValueError(f"pixels must be 'raw' or 'encoded', got {pixels!r}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    if pixels == "encoded" and (examples.mask_format != MaskFormat() or examples.value_range is not None):
        raise ValueError(
            "pixels='encoded' stores files as they are; a range of values, color tables, binary and remap need 'raw'."
        )
    files = num_files or max(1, min(len(examples), 1 + len(examples) // 256))
    skipped: dict[str, str] = {}
    warn_of_labels(examples, num_classes)

    def prepare(index: int) -> tuple[bytes, dict[str, Any]]:
        return _serialized(examples, index, num_classes, pixels)

    def write(temporary: Path) -> None:
        temporary.mkdir()
        names = [f"{number:05d}-of-{files:05d}.tfrecord" for number in range(files)]
        ends = [0] * files
        entries: list[dict[str, Any]] = []
        writers = [tf.io.TFRecordWriter(str(temporary / name)) for name in names]
        try:
            for index, result in enumerate(_in_order(prepare, len(examples))):
                try:
                    content, entry = result.result()
                except ValueError as error:
                    if on_error == "raise":
                        raise
                    skipped[examples.names[index]] = str(error)
                else:
                    file = len(entries) % files
                    writers[file].write(content)
                    entries.append(_placed(entry, file, ends[file]))
                    ends[file] += _BEFORE + len(content) + _BEHIND
                if progress:
                    progress(index + 1, len(examples))
        finally:
            for writer in writers:
                writer.close()
        if not entries:
            raise ValueError(f"{DATA_ERROR} {examples.source}: not one example could be read.")
        manifest = {
            "pixels": pixels,
            "num_classes": num_classes,
            "class_names": list(class_names or examples.class_names or ()),
            "files": names,
            "bytes": ends,
            "examples": entries,
        }
        text = json.dumps(manifest, ensure_ascii=False).replace('{"name"', '\n{"name"')
        (temporary / _MANIFEST).write_text(text + "\n", encoding="utf-8")

    replace_file(target, write)
    return skipped


def _placed(entry: dict[str, Any], file: int, start: int) -> dict[str, Any]:
    """An entry of the index whose places are counted from the start of its file, not of its record."""
    places = {what: [start + _BEFORE + entry[what][0], entry[what][1]] for what in ("image", "mask")}
    return {**entry, **places, "file": file}


def _in_order(function: Callable[[int], Any], count: int) -> Iterator["Future[Any]"]:
    """Run a function on 0..count-1 in threads; give the results in order, holding only a few at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[Future[Any]] = collections.deque()
        try:
            for index in range(count):
                waiting.append(pool.submit(function, index))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()


def _serialized(
    examples: Examples,
    index: int,
    num_classes: int,
    pixels: str,
) -> tuple[bytes, dict[str, Any]]:
    """One example, checked, as a serialized `tf.train.Example`; and what the index says of it."""
    tf = require("tensorflow", extra="data")
    image_path, mask_path = examples.images[index], examples.masks[index]
    image, mask = checked_pair(image_path, mask_path, num_classes, examples.mask_format, examples.value_range)
    if pixels == "raw":
        stored = image.tobytes(), mask.tobytes()
    else:
        stored = Path(image_path).read_bytes(), Path(mask_path).read_bytes() if mask_path else b""

    def of_bytes(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_integers(*values: int) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "image": of_bytes(stored[0]),
        "mask": of_bytes(stored[1]),
        "size": of_integers(*mask.shape),
        "index": of_integers(index),
        "name": of_bytes(examples.names[index].encode()),
    }
    content = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    entry = {"name": examples.names[index], "index": index, "size": list(mask.shape)}
    for what, part in zip(("image", "mask"), stored, strict=True):
        entry[what] = [content.index(part), len(part)]
    return content, entry


def records_folder(source: str | os.PathLike[str], split: str | None) -> Path | None:
    """The folder of records that a path means: itself, or that of a split in it; None if there is none."""
    found = [Path(source), *([Path(source) / split] if split else [])]
    return next((folder for folder in found if (folder / _MANIFEST).is_file()), None)


def prepared_splits(source: str | os.PathLike[str]) -> list[str]:
    """Names of the splits that a folder holds records of."""
    return sorted(file.parent.name for file in Path(source).glob(f"*/{_MANIFEST}"))


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a folder of records says of itself: pixels, num_classes, class_names, files, bytes, examples.

    Raises:
        ValueError: If the folder holds no complete records, or its index is damaged.
    """
    file = Path(folder) / _MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{DATA_ERROR} {folder}: expected records, but there is no {_MANIFEST}; write them with "
            "`keras-exfuse data prepare`."
        )
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise ValueError(f"{DATA_ERROR} {error}") from error
    if "bytes" not in manifest:
        raise ValueError(
            f"{DATA_ERROR} {folder}: these records have no index of their pixels; write them again with "
            "`keras-exfuse data prepare`."
        )
    if not _is_manifest(manifest):
        raise ValueError(
            f"{DATA_ERROR} {file} is damaged, or no index of records; copy the folder again, or write it again with "
            "`keras-exfuse data prepare`."
        )
    for name, size in zip(manifest["files"], manifest["bytes"], strict=True):
        path = Path(folder) / name
        if not path.is_file():
            raise ValueError(f"{DATA_ERROR} {folder}: {name} is listed in {_MANIFEST}, but not there.")
        if path.stat().st_size != size:
            raise ValueError(
                f"{DATA_ERROR} {path}: expected {size} bytes, got {path.stat().st_size}; the copy is not "
                "complete. Copy the folder again, or write it again."
            )
    return manifest


def _is_manifest(manifest: dict[str, Any]) -> bool:
    """Whether an index has all its parts, names files of its own folder only, and no places outside of them."""
    try:
        files, sizes, raw = manifest["files"], manifest["bytes"], manifest["pixels"] == "raw"
        return (
            len(files) == len(sizes)
            and all(Path(name).name == name for name in files)
            and isinstance(manifest["num_classes"], int)
            and all(isinstance(name, str) for name in manifest["class_names"])
            and all(_is_entry(entry, sizes, raw) for entry in manifest["examples"])
        )
    except (KeyError, TypeError, ValueError):
        return False


def _is_entry(entry: dict[str, Any], sizes: list[int], raw: bool) -> bool:
    (height, width), places = entry["size"], [entry["image"], entry["mask"]]
    inside = entry["file"] in range(len(sizes)) and all(
        min(start, length) >= 0 and start + length <= sizes[entry["file"]] for start, length in places
    )
    fits = not raw or [length for _, length in places] == [3 * height * width, height * width]
    return inside and fits and isinstance(entry["name"], str) and isinstance(entry["index"], int)


class Records:
    """Single examples of a folder of records, read from any thread.

    Args:
        folder: What `write_records` made.

    Raises:
        ValueError: If the folder holds no complete records.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        manifest = read_manifest(folder)
        self.folder, self.source, self.num_classes = Path(folder), str(folder), manifest["num_classes"]
        self.names = tuple(entry["name"] for entry in manifest["examples"])
        # Names of some of the classes only would be given to the wrong ones.
        names = tuple(manifest["class_names"])
        self.class_names = names if len(names) == self.num_classes else ()
        self.seeds = [entry["index"] for entry in manifest["examples"]]
        self._files = [str(Path(folder) / name) for name in manifest["files"]]
        self._examples, self._raw = manifest["examples"], manifest["pixels"] == "raw"

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (height, width, 3) and mask (height, width) of uint8."""
        entry = self._examples[index]
        path, size = self._files[entry["file"]], entry["size"]
        image, mask = self._part(path, *entry["image"]), self._part(path, *entry["mask"])
        if self._raw:
            return image.reshape(*size, 3), mask.reshape(size)
        name = f"{path} ({entry['name']})"
        pixels = decode_image(image.tobytes(), name)
        labels = (
            MaskFormat().stored(mask.tobytes(), name) if mask.size else np.full(size, IGNORE_CLASS, np.uint8)
        )
        return pixels, labels

    def _part(self, path: str, start: int, length: int) -> np.ndarray:
        found = np.fromfile(path, np.uint8, length, offset=start)
        if found.size != length:
            raise ValueError(f"{path}: ended after {found.size} of {length} bytes at {start}.")
        return found


def records_dataset(
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 8,
    augmentation: Augmentation | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    num_shards: int = 1,
    index: int = 0,
    pad_to_multiple: int = 1,
    num_parallel_calls: int | None = None,
    start: int | None = None,
) -> Any:
    """Read a folder of records as a `tf.data.Dataset` of batches (image, mask).

    As `examples_dataset` reads files: the same seed gives the same batches.

    Args:
        folder: What `write_records` made, on a file system of this machine.
        batch_size: Examples in a batch.
        augmentation: Random changes for training, or `None`.
        shuffle: Whether every epoch comes in another order.
        seed: Seed of order and augmentation.
        drop_remainder: Whether a last, smaller batch is left out.
        num_shards: Number of hosts that share the data set.
        index: Which of them this is: every example comes up in exactly one shard.
        pad_to_multiple: As in `examples_dataset`.
        num_parallel_calls: Examples read at once; `None` lets tf.data choose.
        start: As in `examples_dataset`: batches without end, from this one on.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If the folder holds no complete records, or an argument is outside its range.
    """
    records = Records(folder)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if not 0 <= index < num_shards:
        raise ValueError(f"index must lie in 0..num_shards-1 = 0..{num_shards - 1}, got {index}.")
    if not range(index, len(records), num_shards):
        raise ValueError(f"Shard {index} of {num_shards} is empty: there are only {len(records)} examples.")
    order = EpochOrder(len(records), shuffle, seed, num_shards, index)
    reader = Reader(records.read, list(records.names), str(folder), augmentation, seed, seeds=records.seeds)
    return assemble(reader, order, batch_size, drop_remainder, pad_to_multiple, num_parallel_calls, start)
