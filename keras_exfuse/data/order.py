"""In which order the examples come, epoch by epoch, and from which batch on."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.python_map import python_call


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep AutoGraph from rewriting a function of ours: none has Python control flow on tensors."""
    return require("tensorflow", extra="data").autograph.experimental.do_not_convert(function)


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
        # Of the first epoch, only what comes from `init` on.
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


def positions(order: EpochOrder, at_end: bool) -> Any:
    """One element for each example: epoch, index into the list; and (epoch, -1) at the end where wanted."""
    tf = require("tensorflow", extra="data")
    end = np.array([-1] if at_end else [], np.int64)

    def of_epoch() -> tuple[Any, Any]:
        epoch = order.next_epoch()
        return epoch, np.concatenate([order.of(epoch), end])

    def one_epoch(_: Any) -> Any:
        epoch, indices = python_call(of_epoch, [], [tf.int64, tf.int64])
        epoch, indices = tf.ensure_shape(epoch, []), tf.ensure_shape(indices, [None])
        examples = tf.data.Dataset.from_tensor_slices(indices)
        return examples.map(as_written(lambda example: (epoch, example)))

    return tf.data.Dataset.from_tensors(0).flat_map(as_written(one_epoch))
