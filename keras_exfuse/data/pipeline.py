"""From a list of examples to a `tf.data.Dataset` of batches: the same object feeds all three backends."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS, MEAN_COLOR_UINT8
from keras_exfuse._optional import require
from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.decoding import require_that
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, voc_examples
from keras_exfuse.data.noticing import warn_of_labels
from keras_exfuse.data.order import BEGIN, EpochOrder, as_written, counted, endless_batches, positions
from keras_exfuse.data.pairs import checked_pair
from keras_exfuse.data.python_map import aligned_array, one_thread_for_opencv, python_call
from keras_exfuse.data.readable import readable
from keras_exfuse.data.reading import ValueRange

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
    colors. All files of the split are looked for before this returns.

    Args:
        root: Folder with `JPEGImages/ID.jpg`, `SegmentationClass/ID.png` and
            `ImageSets/Segmentation/NAME.txt`, or a `VOCdevkit` that holds one.
        split: NAME of the list.
        batch_size: Examples in a batch; the last batch may be smaller.
        augmentation: Random changes for training, or `None` for the images as they are: then images of
            different sizes are padded below and to the right to the largest of the batch, the image with
            the mean color and the mask with 255.
        shuffle: Whether every epoch comes in another order.
        seed: Seed of order and augmentation. The same seed gives the same epochs.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        **options: More arguments of `examples_dataset`.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If the folder, the split or a listed file is not as expected. What shows only when a file is
            read stops the iteration, with a text that contains "keras_exfuse data error:" and the file.

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
    color_table: Any = None,
    nearest_color: bool | None = None,
    binary: bool | None = None,
    reduce_zero_label: bool | None = None,
    remap: dict[int, int] | None = None,
    value_range: ValueRange | None = None,
    num_shards: int = 1,
    index: int = 0,
    pad_to_multiple: int = 1,
    on_error: str = "raise",
    on_skip: Callable[[str, str], None] | None = None,
    num_parallel_calls: int | None = None,
    start: int | None = None,
) -> Any:
    """Read a list of examples as a `tf.data.Dataset` of batches (image, mask).

    With `shuffle` or an augmentation, each iteration is another epoch, and the same seed gives the same epochs. An
    iteration counts once its third batch, or its last, was taken: one that is left before, such as
    `next(iter(dataset))` or the look that Keras takes at a batch before it trains, is begun again by the next.

    Args:
        examples: What to read.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        batch_size: Examples in a batch.
        augmentation: Random changes for training, or `None`.
        shuffle: Whether every epoch comes in another order.
        seed: Seed of order and augmentation.
        drop_remainder: Whether a last, smaller batch is left out.
        color_table: For RGB masks: array (N, 3) whose row number is the label, or `"voc"`. This and the next four
            are those of `MaskFormat`; `None` leaves what the examples say (`examples.mask_format`).
        nearest_color: Whether other colors mean the nearest one of the table.
        binary: Whether masks are black and white: 255 (or 1) is class 1.
        reduce_zero_label: Whether 0 means no class, and classes are counted from 1.
        remap: New label of labels, for example `{11: 255}`; labels that are not named stay. It is applied after what
            the examples say.
        value_range: Black and white in images of more than eight bits, as in `read_image`; `None` leaves what the
            examples say.
        num_shards: Number of hosts that share the data set.
        index: Which of them this is: every example comes up in exactly one shard.
        pad_to_multiple: Without augmentation, heights and widths of batches are padded to a multiple of this
            (fewer different shapes mean fewer compilations under JAX).
        on_error: `"raise"` stops at a bad file; `"skip"` leaves it out, and logs the count and the names
            (logger `keras_exfuse.data`) at the end of the epoch.
        on_skip: Called with (name, reason) for every example left out.
        num_parallel_calls: Files read at once; `None` lets tf.data choose.
        start: If given, the data set has no end, and begins with this batch of all that ever come, counted from 0
            through the epochs: what an interrupted run needs to go on. Needs an augmentation.

    Returns:
        `tf.data.Dataset` of (image uint8 (B, H, W, 3) RGB, mask uint8 (B, H, W)).

    Raises:
        ValueError: If an argument is outside its range.
    """
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

    examples = examples.with_masks(
        color_table=color_table,
        nearest_color=nearest_color,
        binary=binary,
        reduce_zero_label=reduce_zero_label,
        remap=remap,
    ).with_range(value_range)
    warn_of_labels(examples, num_classes)

    def read(example: int) -> tuple[np.ndarray, np.ndarray]:
        paths = examples.images[example], examples.masks[example]
        return checked_pair(*paths, num_classes, examples.mask_format, examples.value_range)

    order = EpochOrder(len(examples), shuffle, seed, num_shards, index)
    reader = Reader(read, examples.names, examples.source, augmentation, seed, on_error, on_skip)
    return assemble(reader, order, batch_size, drop_remainder, pad_to_multiple, num_parallel_calls, start)


def assemble(
    reader: "Reader",
    order: EpochOrder,
    batch_size: int,
    drop_remainder: bool,
    pad_to_multiple: int,
    num_parallel_calls: int | None = None,
    start: int | None = None,
) -> Any:
    """The data set of batches out of a reader of single examples and their order."""
    tf = require("tensorflow", extra="data")
    skipping, calls = reader.on_error == "skip", num_parallel_calls or tf.data.AUTOTUNE
    if start is not None and (reader.augmentation is None or skipping or start < 0):
        raise ValueError(
            f"`start` must be at least 0, and needs an augmentation and on_error='raise', got {start}."
        )
    dataset = positions(order, marked=skipping)
    if reader.augmentation is not None and not skipping:
        # All of one size: whole batches are made in one call each, which spares a copy and most of the calls.
        if start is None:
            dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
        else:
            dataset = endless_batches(order, batch_size, drop_remainder, start)
        dataset = dataset.map(as_written(reader.load_batch), num_parallel_calls=calls, deterministic=True)
        dataset = dataset.map(as_written(reader.pair))
    else:
        dataset = dataset.map(as_written(reader.load), num_parallel_calls=calls, deterministic=True)
        if skipping:
            dataset = dataset.filter(as_written(reader.keep))
        dataset = dataset.map(as_written(reader.pair))
        same_size = reader.augmentation is not None
        dataset = batches(dataset, batch_size, drop_remainder, same_size, pad_to_multiple)
    count = None if skipping else order.batches(batch_size, drop_remainder)
    if count is not None and start is None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if start is None and (order.shuffle or reader.augmentation is not None):
        return readable(counted(dataset, order, count))
    pairs = dataset.map(as_written(lambda epochs, images, masks: (images, masks)))
    return readable(pairs.prefetch(tf.data.AUTOTUNE))


class Reader:
    """Reads one example inside the pipeline, and deals with those that cannot be read.

    Args:
        read: Gives the image and the mask of an index, or raises ValueError with a text that names the
            file.
        names: Names of the examples.
        source: Where they come from, for messages.
        augmentation: Random changes, or `None`.
        seed: Seed of the augmentation.
        on_error: `"raise"` or `"skip"`.
        on_skip: Called with (name, reason) for every example left out, in order.
        seeds: What tells the examples apart for the random changes; their index if `None`.
    """

    def __init__(
        self,
        read: Callable[[int], tuple[np.ndarray, np.ndarray]],
        names: Sequence[str],
        source: str,
        augmentation: Augmentation | None,
        seed: int,
        on_error: str = "raise",
        on_skip: Callable[[str, str], None] | None = None,
        seeds: Sequence[int] | None = None,
    ):
        self.read, self.names, self.source = read, names, source
        self.augmentation, self.seed, self.seeds = augmentation, int(seed), seeds
        self.on_error, self.on_skip = on_error, on_skip
        one_thread_for_opencv()
        self._kept = 0
        self._skipped: list[str] = []

    def load(self, epoch: Any, example: Any) -> tuple[Any, ...]:
        """In graph: (epoch, index) to (reason, epoch, index, image, mask); no reason if all went well."""
        tf = require("tensorflow", extra="data")
        reason, image, mask = python_call(self._load, [epoch, example], [tf.string, tf.uint8, tf.uint8])
        return (
            tf.ensure_shape(reason, []),
            epoch,
            example,
            tf.ensure_shape(image, [None, None, 3]),
            tf.ensure_shape(mask, [None, None]),
        )

    def load_batch(self, epochs: Any, examples: Any) -> tuple[Any, ...]:
        """In graph: as `load`, for a batch of crops of one size."""
        tf = require("tensorflow", extra="data")
        types = [tf.string, tf.uint8, tf.uint8]
        reason, images, masks = python_call(self._load_batch, [epochs, examples], types)
        return (
            tf.ensure_shape(reason, []),
            epochs,
            examples,
            tf.ensure_shape(images, [None, None, None, 3]),
            tf.ensure_shape(masks, [None, None, None]),
        )

    def _load_batch(self, epochs: Any, examples: Any) -> tuple[Any, ...]:
        assert self.augmentation is not None
        count, size = len(examples), self.augmentation.size
        images, masks = aligned_array((count, *size, 3)), aligned_array((count, *size))
        for place, (epoch, example) in enumerate(zip(epochs, examples, strict=True)):
            reason, *_ = self._load(epoch, example, (images[place], masks[place]))
            if reason:
                return reason, images, masks
        return b"", images, masks

    def pair(self, reason: Any, epoch: Any, example: Any, image: Any, mask: Any) -> tuple[Any, Any, Any]:
        """In graph: epoch, image and mask of an example that was read; fails if it was not."""
        tf = require("tensorflow", extra="data")
        message = tf.strings.join([DATA_ERROR, " ", reason])
        with tf.control_dependencies([require_that(reason == b"", message)]):
            image = tf.identity(image)
        if self.augmentation is None:
            return epoch, image, mask
        batch = [None] * (mask.shape.rank - 2)
        size = [*batch, *self.augmentation.size]
        return epoch, tf.ensure_shape(image, [*size, 3]), tf.ensure_shape(mask, size)

    def _load(self, epoch: Any, example: Any, out: Any = None) -> tuple[Any, ...]:
        nothing = np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)
        if example < 0:
            return b"", *nothing
        try:
            image, mask = self.read(int(example))
        except ValueError as error:
            # Not raised from here: TensorFlow would log a traceback, and also for files behind the first one.
            return " ".join(str(error).split()).removeprefix(DATA_ERROR).strip().encode(), *nothing
        if self.augmentation is not None:
            number = int(example) if self.seeds is None else self.seeds[int(example)]
            image, mask = self.augmentation.apply(image, mask, (self.seed * 2**31 + int(epoch), number), out)
        return b"", image, mask

    def keep(self, reason: Any, epoch: Any, example: Any, image: Any, mask: Any) -> Any:
        """In graph: whether an element is an example; called in order, so that the report is."""
        tf = require("tensorflow", extra="data")
        return tf.ensure_shape(python_call(self._keep, [reason, example], [tf.bool])[0], [])

    def _keep(self, reason: bytes, example: Any) -> Any:
        if example == BEGIN:  # Also when the iteration before was left before its end.
            self._skipped, self._kept = [], 0
            return np.bool_(False)
        if example >= 0 and not reason:
            self._kept += 1
            return np.bool_(True)
        if example >= 0:
            name = self.names[int(example)]
            self._skipped.append(name)
            if self.on_skip is not None:
                self.on_skip(name, reason.decode())
            _log.debug("left out %s: %s", name, reason.decode())
            return np.bool_(False)
        if self._skipped:
            count, names = len(self._skipped) + self._kept, ", ".join(self._skipped)
            _log.warning("%d of %d examples were left out: %s", len(self._skipped), count, names)
        if not self._kept:
            raise ValueError(f"{DATA_ERROR} {self.source}: not one example could be read.")
        return np.bool_(False)


def batches(dataset: Any, batch_size: int, drop_remainder: bool, same_size: bool, multiple: int) -> Any:
    """Batch (epoch, image, mask); images of different sizes are padded below and to the right."""
    tf = require("tensorflow", extra="data")
    if same_size:
        return dataset.batch(batch_size, drop_remainder=drop_remainder)

    def with_size(epoch: Any, image: Any, mask: Any) -> tuple[Any, ...]:
        return epoch, image, mask, tf.shape(mask)

    def fill(epochs: Any, image: Any, mask: Any, sizes: Any) -> tuple[Any, Any, Any]:
        height, width = tf.shape(mask)[1], tf.shape(mask)[2]
        if multiple > 1:
            below, right = -height % multiple, -width % multiple
            image = tf.pad(image, [[0, 0], [0, below], [0, right], [0, 0]])
            mask = tf.pad(mask, [[0, 0], [0, below], [0, right]], constant_values=IGNORE_CLASS)
        rows, columns = tf.range(tf.shape(mask)[1]), tf.range(tf.shape(mask)[2])
        inside = (rows[None, :, None] < sizes[:, 0, None, None]) & (
            columns[None, None] < sizes[:, 1, None, None]
        )
        # padded_batch knows one value for all channels only, so the mean color is put in afterwards.
        image = tf.where(inside[..., None], image, tf.constant(MEAN_COLOR_UINT8, tf.uint8))
        return epochs, image, mask

    dataset = dataset.map(as_written(with_size))
    none = tf.constant(0, tf.int64), tf.constant(0)  # Epochs and sizes need no padding.
    zero, void = tf.constant(0, tf.uint8), tf.constant(IGNORE_CLASS, tf.uint8)
    dataset = dataset.padded_batch(
        batch_size, padding_values=(none[0], zero, void, none[1]), drop_remainder=drop_remainder
    )
    return dataset.map(as_written(fill))
