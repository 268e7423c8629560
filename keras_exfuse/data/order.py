"""In which order the examples come, epoch by epoch, and from which batch on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.python_map import python_call

# What stands among the indices of an epoch where its beginning and its end are to be known.
BEGIN, END = -2, -1
# An iteration that is left after so many batches was only looked into. Keras's trainers take one before the first
# epoch, under JAX and PyTorch, and under JAX on a GPU a second one ahead.
_LOOK = 2


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep AutoGraph from rewriting a function of ours: none has Python control flow on tensors."""
    return require("tensorflow", extra="data").autograph.experimental.do_not_convert(function)


class EpochOrder:
    """The order of the examples in every epoch: a function of the seed and the epoch's number alone.

    It also counts the epochs of a data set that is iterated: an iteration counts once it has given its third batch, or
    its last. One that is left before is begun again by the next, so that a look at a batch shifts nothing.
    """

    def __init__(self, count: int, shuffle: bool, seed: int, num_shards: int = 1, index: int = 0):
        self.count, self.shuffle, self.seed = count, shuffle, int(seed)
        self.num_shards, self.index = num_shards, index
        self._epoch = np.int64(0)

    def current_epoch(self) -> Any:
        """The epoch that an iteration gets which begins now."""
        return self._epoch

    def given(self, epoch: Any, batch: Any, is_last: Any) -> Any:
        """Take note of a batch that was given, by its number in its epoch; true."""
        if batch >= _LOOK or is_last:
            self._epoch = max(self._epoch, epoch + 1)
        return np.bool_(True)

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

    def batches(self, batch_size: int, drop_remainder: bool = False) -> int:
        """How many batches an epoch has."""
        length = len(range(self.index, self.count, self.num_shards))
        return length // batch_size if drop_remainder else -(-length // batch_size)

    def of_batch(self, batch: Any, batch_size: int, drop_remainder: bool = False) -> tuple[int, Any]:
        """Epoch and indices of a batch, counted from 0 through all epochs."""
        epoch, place = divmod(int(batch), self.batches(batch_size, drop_remainder))
        return epoch, self.of(epoch)[place * batch_size : (place + 1) * batch_size]


def endless_batches(order: EpochOrder, batch_size: int, drop_remainder: bool, start: int) -> Any:
    """(epochs, indices) of every batch from a number on: the same whenever it is iterated."""
    tf = require("tensorflow", extra="data")

    def of_epoch(epoch: Any) -> tuple[Any, Any]:
        # Of the first epoch, only what comes from `start` on.
        done = start % length * batch_size if epoch == start // length else 0
        indices = order.of(epoch)[done:]
        return np.full(len(indices), epoch, np.int64), indices

    def one_epoch(epoch: Any) -> Any:
        epochs, indices = python_call(of_epoch, [epoch], [tf.int64, tf.int64])
        pairs = tf.ensure_shape(epochs, [None]), tf.ensure_shape(indices, [None])
        return tf.data.Dataset.from_tensor_slices(pairs).batch(batch_size, drop_remainder=drop_remainder)

    length = order.batches(batch_size, drop_remainder)
    epochs = tf.data.Dataset.range(start // length, np.iinfo(np.int64).max)
    return epochs.flat_map(as_written(one_epoch))


def positions(order: EpochOrder, marked: bool) -> Any:
    """One element for each example: epoch, index into the list; with `BEGIN` and `END` around them where wanted."""
    tf = require("tensorflow", extra="data")

    def of_epoch() -> tuple[Any, Any]:
        epoch = order.current_epoch()
        indices = order.of(epoch)
        return epoch, np.concatenate([[BEGIN], indices, [END]]) if marked else indices

    def one_epoch(_: Any) -> Any:
        epoch, indices = python_call(of_epoch, [], [tf.int64, tf.int64])
        epoch, indices = tf.ensure_shape(epoch, []), tf.ensure_shape(indices, [None])
        examples = tf.data.Dataset.from_tensor_slices(indices)
        return examples.map(as_written(lambda example: (epoch, example)))

    return tf.data.Dataset.from_tensors(0).flat_map(as_written(one_epoch))


def counted(batches: Any, order: EpochOrder, count: int | None) -> Any:
    """Batches (image, mask) out of (epochs, image, mask), whose order takes note of each that is given.

    Args:
        batches: The data set of one epoch.
        order: What counts epochs.
        count: Batches of an epoch, or None if only reading tells: then each is held back until the next is there.
    """
    tf = require("tensorflow", extra="data")
    if count is None:
        marked = _with_last_marked(batches)
    else:
        marked = batches.enumerate().map(as_written(lambda number, batch: (number == count - 1, *batch)))

    def give(number: Any, batch: tuple[Any, ...]) -> tuple[Any, Any]:
        is_last, epochs, images, masks = batch
        (done,) = python_call(order.given, [epochs[0], number, is_last], [tf.bool])
        with tf.control_dependencies([done]):
            return tf.identity(images), tf.identity(masks)

    # Not ahead of who takes the batches: what was prepared but not taken does not count.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return marked.prefetch(tf.data.AUTOTUNE).enumerate().map(as_written(give)).with_options(options)


def _with_last_marked(batches: Any) -> Any:
    """(whether it is the last, *batch) of each batch."""
    tf = require("tensorflow", extra="data")
    nothing = tuple(
        tf.zeros([0, *(side or 0 for side in spec.shape[1:])], spec.dtype) for spec in batches.element_spec
    )

    def held_back(held: Any, batch: Any) -> Any:
        return batch, (tf.equal(tf.shape(batch[0])[0], 0), *held)

    marked = batches.concatenate(tf.data.Dataset.from_tensors(nothing))
    marked = marked.scan(nothing, as_written(held_back))
    return marked.filter(as_written(lambda is_last, epochs, *_: tf.shape(epochs)[0] > 0))
