"""From a list of examples to a `tf.data.Dataset` of batches: the same object feeds all three backends."""

import itertools
import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.decoding import EncodedPicture, decode_mask, require_that
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, voc_examples
from keras_exfuse.data.palette import MEAN_COLOUR, VOID
from keras_exfuse.data.reading import explain_pair

_log = logging.getLogger("keras_exfuse.data")


def voc_folder(
    root: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int = 8,
    augmentation: Augmentation | None = None,
    shuffle: bool = False,
    seed: int = 0,
    num_classes: int = 21,
    **options: Any,
) -> Any:
    """Read a folder in VOC layout as a `tf.data.Dataset` of batches (image, mask).

    Masks are palette PNGs (any palette: the stored indices are the labels), gray PNGs, or RGB PNGs in the VOC
    colours. All files of the split are looked for before this returns.

    Args:
        root: Folder with `JPEGImages/ID.jpg`, `SegmentationClass/ID.png` and
            `ImageSets/Segmentation/NAME.txt`, or a `VOCdevkit` that holds one.
        split: NAME of the list.
        batch_size: Examples in a batch; the last batch may be smaller.
        augmentation: Random changes for training, or `None` for the pictures as they are: then pictures of
            different sizes are padded below and to the right to the largest of the batch, the picture with
            the mean colour and the mask with 255.
        shuffle: Whether every epoch comes in another order.
        seed: Seed of order and augmentation. The same seed gives the same epochs.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        **options: More arguments of `examples_dataset`.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If the folder, the split or a listed file is not as expected. An error in a file that
        shows in
            reading it stops the iteration with a text that contains "keras_exfuse data error:" and the file.

    Example:

    >>> train = voc_folder("VOCdevkit/VOC2012", "train", augmentation=Augmentation(512))  # doctest: +SKIP
    """
    return examples_dataset(
        voc_examples(root, split),
        batch_size=batch_size,
        augmentation=augmentation,
        shuffle=shuffle,
        seed=seed,
        num_classes=num_classes,
        **options,
    )


def examples_dataset(
    examples: Examples,
    *,
    num_classes: int,
    batch_size: int = 8,
    augmentation: Augmentation | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    colour_table: np.ndarray | str | None = "voc",
    remap: dict[int, int] | None = None,
    num_shards: int = 1,
    index: int = 0,
    pad_to_multiple: int = 1,
    on_error: str = "raise",
    on_skip: Callable[[str, str], None] | None = None,
    num_parallel_calls: int | None = None,
) -> Any:
    """Read a list of examples as a `tf.data.Dataset` of batches (image, mask).

    Args:
        examples: What to read.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        batch_size: Examples in a batch.
        augmentation: Random changes for training, or `None`.
        shuffle: Whether every epoch comes in another order.
        seed: Seed of order and augmentation.
        drop_remainder: Whether a last, smaller batch is left out.
        colour_table: For RGB masks: array (N, 3) whose row number is the label, `"voc"`, or `None` to refuse
            them.
        remap: New label of stored labels, for example `{11: 255}`; labels that are not named stay.
        num_shards: Number of hosts that share the data set.
        index: Which of them this is: every example comes up in exactly one shard.
        pad_to_multiple: Without augmentation, heights and widths of batches are padded to a multiple of this
            (fewer different shapes mean fewer compilations under JAX).
        on_error: `"raise"` stops at a bad file; `"skip"` leaves it out, and logs the count and the names
            (logger `keras_exfuse.data`) at the end of the epoch.
        on_skip: Called with (name, reason) for every example left out.
        num_parallel_calls: Files read at once; `None` lets tf.data choose.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If an argument is outside its range.
    """
    tf = require("tensorflow", extra="data")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if not 2 <= num_classes <= 255:
        raise ValueError(f"num_classes must lie in 2..255 (255 is the ignored label), got {num_classes}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    if not 0 <= index < num_shards:
        raise ValueError(f"index must lie in 0..num_shards-1 = 0..{num_shards - 1}, got {index}.")
    shard_length = len(range(index, len(examples), num_shards))
    if shard_length == 0:
        raise ValueError(f"Shard {index} of {num_shards} is empty: there are only {len(examples)} examples.")

    reader = _Reader(examples, num_classes, augmentation, seed, colour_table, label_table(remap))
    order = EpochOrder(len(examples), shuffle, seed, num_shards, index)
    dataset = _positions(order)
    dataset = dataset.map(
        as_written(reader.load), num_parallel_calls=num_parallel_calls or tf.data.AUTOTUNE, deterministic=True
    )
    dataset = _watch_for_failures(dataset, reader, order, on_error, on_skip)
    dataset = batches(dataset, batch_size, drop_remainder, augmentation is not None, pad_to_multiple)
    if on_error == "raise":
        count = shard_length // batch_size if drop_remainder else -(-shard_length // batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(tf.data.AUTOTUNE)


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep AutoGraph from rewriting a function of ours: none has Python control flow on tensors."""
    return require("tensorflow", extra="data").autograph.experimental.do_not_convert(function)


def label_table(remap: dict[int, int] | None) -> np.ndarray | None:
    """A table of 256 labels out of a dictionary."""
    if not remap:
        return None
    table = np.arange(256, dtype=np.uint8)
    for old, new in remap.items():
        if not (0 <= old <= 255 and 0 <= new <= 255):
            raise ValueError(f"remap maps labels in 0..255 to labels in 0..255, got {old}: {new}.")
        table[old] = new
    return table


class EpochOrder:
    """The order of the examples in every epoch: a function of the seed and the epoch's number alone."""

    def __init__(self, count: int, shuffle: bool, seed: int, num_shards: int = 1, index: int = 0):
        self.count, self.shuffle, self.seed = count, shuffle, int(seed)
        self.num_shards, self.index = num_shards, index
        self._epochs = itertools.count()

    def next_epoch(self) -> Any:
        return np.int64(next(self._epochs))

    def of(self, epoch: Any) -> Any:
        """Indices into the list of examples, of this shard."""
        order = np.arange(self.count, dtype=np.int64)
        if self.shuffle:
            # Sorting the raw numbers of a counter-based generator: unlike `Generator.permutation`, this
            # cannot change with numpy's version, and every host gets the same order.
            key = np.array([self.seed % 2**64, int(epoch)], np.uint64)
            order = np.argsort(np.random.Philox(key=key).random_raw(self.count), kind="stable").astype(
                np.int64
            )
        return order[self.index :: self.num_shards]


def _positions(order: EpochOrder) -> Any:
    """One element for each example: epoch, position in the epoch, index into the list."""
    tf = require("tensorflow", extra="data")

    def one_epoch(epoch: Any) -> Any:
        indices = tf.numpy_function(order.of, [epoch], tf.int64)
        indices = tf.ensure_shape(indices, [None])
        pairs = tf.data.Dataset.from_tensor_slices(indices).enumerate()
        return pairs.map(as_written(lambda position, example: (epoch, position, example)))

    return number_epochs(order).flat_map(as_written(one_epoch))


def number_epochs(order: EpochOrder) -> Any:
    """One element, the number of the epoch: 0 the first time that the data set is read, 1 the second, ..."""
    tf = require("tensorflow", extra="data")

    def number_of_epoch(_: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(order.next_epoch, [], tf.int64), [])

    return tf.data.Dataset.from_tensors(0).map(as_written(number_of_epoch))


def example_seed(seed: int, epoch: Any, example: Any) -> Any:
    """The seed of one example in one epoch; int64 tensor (2,)."""
    tf = require("tensorflow", extra="data")
    return tf.stack([int(seed) % 2**31 + epoch * 2**31, example])


class _Reader:
    """Reads one example in graph; and tells in Python what is wrong with one that could not be read."""

    def __init__(
        self,
        examples: Examples,
        num_classes: int,
        augmentation: Augmentation | None,
        seed: int,
        colour_table: np.ndarray | str | None,
        label_table: np.ndarray | None,
    ):
        tf = require("tensorflow", extra="data")
        self.examples, self.num_classes, self.augmentation = examples, num_classes, augmentation
        self.seed, self.colour_table, self.label_table = seed, colour_table, label_table
        with tf.device("CPU:0"):
            self._images, self._masks = tf.constant(examples.images), tf.constant(examples.masks)

    def load(self, epoch: Any, position: Any, example: Any) -> tuple[Any, ...]:
        """(epoch, position, index) to (epoch, position, index, image, mask); fails if anything is wrong."""
        tf = require("tensorflow", extra="data")
        picture = EncodedPicture(tf.io.read_file(self._images[example]))
        mask = self._read_mask(self._masks[example], picture)
        if self.label_table is not None:
            mask = tf.gather(tf.constant(self.label_table), tf.cast(mask, tf.int32))
        # The void label wraps to 0 when 1 is added, so one maximum checks all labels.
        largest = tf.cast(tf.reduce_max(mask + tf.constant(1, tf.uint8)), tf.int32)
        checks = [
            require_that(largest <= self.num_classes, "a label outside the classes"),
            require_that(tf.reduce_all(picture.size() == tf.shape(mask)), "sizes differ"),
        ]
        with tf.control_dependencies(checks):
            mask = tf.identity(mask)
        if self.augmentation is None:
            image = picture.whole()
        else:
            image, mask = self.augmentation.apply(picture, mask, example_seed(self.seed, epoch, example))
        return epoch, position, example, image, mask

    def _read_mask(self, path: Any, picture: EncodedPicture) -> Any:
        """The stored labels; all 255 for a picture without a mask."""
        tf = require("tensorflow", extra="data")

        def read() -> Any:
            return decode_mask(tf.io.read_file(path), self.colour_table)

        if all(self.examples.masks):
            return read()
        return tf.cond(path == b"", lambda: tf.fill(picture.size(), tf.constant(VOID, tf.uint8)), read)

    def explain(self, index: int, epoch: int) -> str:
        """Why an example could not be read, in one line that names the file."""
        examples = self.examples
        reason = explain_pair(
            examples.images[index],
            examples.masks[index],
            self.num_classes,
            self.colour_table,
            self.label_table,
        )
        if reason is None:  # Pillow sees no fault: give TensorFlow's own words.
            try:
                self.load(np.int64(epoch), np.int64(0), np.int64(index))
            except Exception as error:
                reason = (
                    f"{examples.images[index]} or {examples.masks[index]}: {' '.join(str(error).split())}"
                )
        return reason or f"{examples.images[index]}: could not be read a moment ago, and can be read now."


def _watch_for_failures(
    dataset: Any,
    reader: _Reader,
    order: EpochOrder,
    on_error: str,
    on_skip: Callable[[str, str], None] | None,
) -> Any:
    """Drop the elements that failed, notice the gap that they leave, and say which file it was.

    An exception inside a parallel `map` does not know its element. Dropping it and looking at the positions
    of the others does: the first gap is the example that failed. A last element is appended for gaps at the
    end.
    """
    tf = require("tensorflow", extra="data")
    shard_length = len(order.of(0))
    skipped: list[str] = []

    def report(epoch: Any, first: Any, end: Any) -> Any:
        for position in range(int(first), int(end)):
            example = int(order.of(max(int(epoch), 0))[position])
            reason = reader.explain(example, int(epoch))
            if on_error == "raise":
                return f"{DATA_ERROR} {reason}".encode()
            name = reader.examples.names[example]
            skipped.append(name)
            if on_skip is not None:
                on_skip(name, reason)
            _log.debug("left out %s: %s", name, reason)
        return b""

    def end_of_epoch() -> Any:
        if skipped:
            _log.warning(
                "%d of %d examples were left out: %s", len(skipped), shard_length, ", ".join(skipped)
            )
        everything = len(skipped) >= shard_length
        skipped.clear()
        if everything:
            return f"{DATA_ERROR} {reader.examples.source}: not one example could be read.".encode()
        return b""

    def watch(state: Any, element: tuple[Any, ...]) -> tuple[Any, Any]:
        expected, last_epoch = state
        epoch, position = element[0], element[1]
        at_end = epoch < 0
        epoch = tf.where(at_end, last_epoch, epoch)
        none = tf.constant(b"")
        message = tf.cond(
            position > expected,
            lambda: tf.ensure_shape(tf.numpy_function(report, [epoch, expected, position], tf.string), []),
            lambda: none,
        )
        if on_error == "skip":
            with tf.control_dependencies([message]):
                message = tf.cond(
                    at_end,
                    lambda: tf.ensure_shape(tf.numpy_function(end_of_epoch, [], tf.string), []),
                    lambda: none,
                )
        with tf.control_dependencies([require_that(message == none, message)]):
            position = tf.identity(position)
        return (position + 1, epoch), (at_end, element[3], element[4])

    image_shape, mask_shape = dataset.element_spec[3].shape, dataset.element_spec[4].shape
    nothing = (
        np.int64(-1),
        np.int64(shard_length),
        np.int64(-1),
        tf.zeros([side or 0 for side in image_shape], tf.uint8),
        tf.zeros([side or 0 for side in mask_shape], tf.uint8),
    )
    dataset = dataset.ignore_errors().concatenate(tf.data.Dataset.from_tensors(nothing))
    dataset = dataset.scan((np.int64(0), np.int64(-1)), as_written(watch))
    dataset = dataset.filter(as_written(lambda at_end, image, mask: ~at_end))
    return dataset.map(as_written(lambda at_end, image, mask: (image, mask)))


def batches(dataset: Any, batch_size: int, drop_remainder: bool, same_size: bool, multiple: int) -> Any:
    """Batch; pictures of different sizes are padded below and to the right."""
    tf = require("tensorflow", extra="data")
    if same_size:
        return dataset.batch(batch_size, drop_remainder=drop_remainder)

    def with_size(image: Any, mask: Any) -> tuple[Any, Any, Any]:
        return image, mask, tf.shape(mask)

    def fill(image: Any, mask: Any, sizes: Any) -> tuple[Any, Any]:
        height, width = tf.shape(mask)[1], tf.shape(mask)[2]
        if multiple > 1:
            below, right = -height % multiple, -width % multiple
            image = tf.pad(image, [[0, 0], [0, below], [0, right], [0, 0]])
            mask = tf.pad(mask, [[0, 0], [0, below], [0, right]], constant_values=VOID)
        rows, columns = tf.range(tf.shape(mask)[1]), tf.range(tf.shape(mask)[2])
        inside = (rows[None, :, None] < sizes[:, 0, None, None]) & (
            columns[None, None] < sizes[:, 1, None, None]
        )
        # padded_batch knows one value for all channels only, so the mean colour is put in afterwards.
        image = tf.where(inside[..., None], image, tf.constant(MEAN_COLOUR, tf.uint8))
        return image, mask

    dataset = dataset.map(as_written(with_size))
    zero, void = tf.constant(0, tf.uint8), tf.constant(VOID, tf.uint8)
    dataset = dataset.padded_batch(
        batch_size, padding_values=(zero, void, tf.constant(0)), drop_remainder=drop_remainder
    )
    return dataset.map(as_written(fill))
