"""Records: a data set checked once and written for fast reading, as sharded TFRecord files."""

import collections
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.archives import replaced_folder
from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.decoding import EncodedPicture, decode_mask
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples
from keras_exfuse.data.pipeline import EpochOrder, as_written, batches, example_seed, number_epochs
from keras_exfuse.data.reading import checked_pair

_log = logging.getLogger("keras_exfuse.data")
_MANIFEST = "records.json"


def write_records(
    examples: Examples,
    folder: str | os.PathLike[str],
    *,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    pixels: str = "raw",
    num_files: int | None = None,
    colour_table: np.ndarray | str | None = "voc",
    label_table: np.ndarray | None = None,
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
        colour_table: For RGB masks, as in `read_mask`.
        label_table: Array (256,) that maps stored labels to the classes, or `None`.
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
    if pixels == "encoded" and (label_table is not None or not isinstance(colour_table, str)):
        raise ValueError("pixels='encoded' stores masks as they are; remapping and colour tables need 'raw'.")
    files = num_files or max(1, min(len(examples), 1 + len(examples) // 256))
    names = [f"{number:05d}-of-{files:05d}.tfrecord" for number in range(files)]
    skipped: dict[str, str] = {}
    written: list[str] = []

    def prepare(index: int) -> bytes:
        return _serialised(examples, index, num_classes, pixels, colour_table, label_table)

    with replaced_folder(target) as temporary:
        writers = [tf.io.TFRecordWriter(str(temporary / name)) for name in names]
        try:
            for index, result in enumerate(_in_order(prepare, len(examples))):
                try:
                    content = result.result()
                except ValueError as error:
                    if on_error == "raise":
                        raise
                    skipped[examples.names[index]] = str(error)
                else:
                    # Round robin: reading the files in turns gives the examples in their order again.
                    writers[len(written) % files].write(content)
                    written.append(examples.names[index])
                if progress:
                    progress(index + 1, len(examples))
        finally:
            for writer in writers:
                writer.close()
        if not written:
            raise ValueError(f"{DATA_ERROR} {examples.source}: not one example could be read.")
        manifest = {
            "pixels": pixels,
            "num_classes": num_classes,
            "class_names": list(class_names or examples.class_names or ()),
            "files": names,
            "names": written,
        }
        (temporary / _MANIFEST).write_text(
            json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8"
        )
    return skipped


def _in_order(function: Callable[[int], bytes], count: int) -> Iterator["Future[bytes]"]:
    """Run a function on 0..count-1 in threads; give the results in order, holding only a few at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[Future[bytes]] = collections.deque()
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


def _serialised(
    examples: Examples,
    index: int,
    num_classes: int,
    pixels: str,
    colour_table: np.ndarray | str | None,
    label_table: np.ndarray | None,
) -> bytes:
    """One example, checked, as a serialised `tf.train.Example`."""
    tf = require("tensorflow", extra="data")
    image_path, mask_path = examples.images[index], examples.masks[index]
    image, mask = checked_pair(image_path, mask_path, num_classes, colour_table, label_table)
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
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _shuffled(dataset: Any, buffer_size: int, seed: int, epoch: Any) -> Any:
    """`dataset.shuffle` with the epoch, a tensor, in its seed; the method takes numbers only."""
    tf = require("tensorflow", extra="data")
    shape = tf.TensorSpec([], tf.string)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=tf.constant(int(seed) % 2**62 + 1, tf.int64),
        seed2=epoch + 1,
        output_types=[tf.string],
        output_shapes=[[]],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, shape)


class RawPicture(EncodedPicture):
    """In graph: a picture whose pixels are there already; the same calls as `EncodedPicture`."""

    def __init__(self, pixels: Any, size: Any):
        tf = require("tensorflow", extra="data")
        self._size = tf.ensure_shape(tf.cast(size, tf.int32), [2])
        self._pixels = pixels

    def _rows(self, top: Any, height: Any) -> Any:
        """Some rows of the picture; only their bytes are copied."""
        tf = require("tensorflow", extra="data")
        line = 3 * self._size[1]
        part = tf.strings.substr(self._pixels, top * line, height * line)
        return tf.reshape(tf.io.decode_raw(part, tf.uint8), tf.stack([height, self._size[1], 3]))

    def size(self) -> Any:
        """Height and width."""
        return self._size

    def whole(self) -> Any:
        """The picture: tensor (height, width, 3) of uint8."""
        return self._rows(0, self._size[0])

    def window(self, window: Any) -> Any:
        """A part of the picture, by top row, left column, height and width."""
        tf = require("tensorflow", extra="data")
        return tf.slice(self._rows(window[0], window[2]), [0, window[1], 0], [window[2], window[3], 3])


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a folder of records says of itself: pixels, num_classes, class_names, files, names.

    Raises:
        ValueError: If the folder holds no complete records.
    """
    file = Path(folder) / _MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{DATA_ERROR} {folder}: expected records, but there is no {_MANIFEST}; write them with "
            "`keras-exfuse data prepare`."
        )
    manifest = json.loads(file.read_text(encoding="utf-8"))
    missing = [name for name in manifest["files"] if not (Path(folder) / name).is_file()]
    if missing:
        raise ValueError(f"{DATA_ERROR} {folder}: {', '.join(missing)} listed in {_MANIFEST}, but not there.")
    return manifest


def records_dataset(
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 8,
    augmentation: Augmentation | None = None,
    shuffle: bool = False,
    shuffle_buffer: int = 256,
    seed: int = 0,
    drop_remainder: bool = False,
    num_shards: int = 1,
    index: int = 0,
    pad_to_multiple: int = 1,
) -> Any:
    """Read a folder of records as a `tf.data.Dataset` of batches (image, mask), as `examples_dataset` reads
    files.

    Args:
        folder: What `write_records` made.
        batch_size: Examples in a batch.
        augmentation: Random changes for training, or `None`.
        shuffle: Whether every epoch comes in another order: that of the files, and within a buffer.
        shuffle_buffer: Examples in the buffer; raw pixels of VOC take 0.75 MB each.
        seed: Seed of order and augmentation.
        drop_remainder: Whether a last, smaller batch is left out.
        num_shards: Number of hosts that share the data set.
        index: Which of them this is: every example comes up in exactly one shard.
        pad_to_multiple: As in `examples_dataset`.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If the folder holds no complete records, or an argument is outside its range.
    """
    tf = require("tensorflow", extra="data")
    manifest = read_manifest(folder)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if not 0 <= index < num_shards:
        raise ValueError(f"index must lie in 0..num_shards-1 = 0..{num_shards - 1}, got {index}.")
    files = tf.constant([str(Path(folder) / name) for name in manifest["files"]])
    order = EpochOrder(len(manifest["files"]), shuffle, seed)
    raw = manifest["pixels"] == "raw"

    def one_epoch(epoch: Any) -> Any:
        chosen = tf.gather(files, tf.ensure_shape(tf.numpy_function(order.of, [epoch], tf.int64), [None]))
        dataset = tf.data.Dataset.from_tensor_slices(chosen).interleave(
            lambda name: tf.data.TFRecordDataset(name, buffer_size=1 << 22),
            cycle_length=len(manifest["files"]),
            block_length=1,
        )
        if num_shards > 1:
            dataset = dataset.shard(num_shards, index)
        if shuffle:
            dataset = _shuffled(dataset, shuffle_buffer, seed, epoch)
        return dataset.map(as_written(lambda record: (epoch, record)))

    def load(epoch: Any, record: Any) -> tuple[Any, Any]:
        fields = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", "mask")}
        fields["size"] = tf.io.FixedLenFeature([2], tf.int64)
        fields["index"] = tf.io.FixedLenFeature([], tf.int64)
        example = tf.io.parse_single_example(record, fields)
        if raw:
            picture: EncodedPicture = RawPicture(example["image"], example["size"])
            mask = tf.reshape(tf.io.decode_raw(example["mask"], tf.uint8), example["size"])
        else:
            picture = EncodedPicture(example["image"])
            mask = tf.cond(
                example["mask"] == b"",
                lambda: tf.fill(picture.size(), tf.constant(255, tf.uint8)),
                lambda: decode_mask(example["mask"]),
            )
        if augmentation is None:
            return picture.whole(), mask
        return augmentation.apply(picture, mask, example_seed(seed, epoch, example["index"]))

    dataset = number_epochs(order).flat_map(as_written(one_epoch))
    dataset = dataset.map(as_written(load), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = batches(dataset, batch_size, drop_remainder, augmentation is not None, pad_to_multiple)
    length = len(range(index, len(manifest["names"]), num_shards))
    count = length // batch_size if drop_remainder else -(-length // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)
