"""The training crops of `keras_exfuse.data`, without TensorFlow: read and cut in threads, in the same order."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_exfuse._threads import prefetch
from keras_exfuse.data import Augmentation, Examples
from keras_exfuse.data.order import EpochOrder
from keras_exfuse.data.pairs import checked_pair
from keras_exfuse.data.python_map import one_thread_for_opencv

Read = Callable[[int], tuple[np.ndarray, np.ndarray]]


def crop_batches(
    read: Read, count: int, batch_size: int, augmentation: Augmentation, seed: int, threads: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `examples_dataset(..., shuffle=True, drop_remainder=True)` gives, epoch after epoch without end.

    Args:
        read: Gives image and mask of an example.
        count: Number of examples.
        batch_size: Crops in a batch.
        augmentation: What happens at random.
        seed: Of order and augmentation.
        threads: Crops that are made at once.

    Yields:
        Images (batch_size, H, W, 3) and masks (batch_size, H, W), both uint8.
    """
    one_thread_for_opencv()
    order = EpochOrder(count, shuffle=True, seed=seed)
    with ThreadPoolExecutor(threads) as pool:

        def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
            epoch, indices = order.of_batch(number, batch_size, drop_remainder=True)

            def crop(index: int) -> tuple[np.ndarray, np.ndarray]:
                return augmentation.apply(*read(index), (seed * 2**31 + epoch, index))

            images, masks = zip(*pool.map(crop, map(int, indices)), strict=True)
            return np.stack(images), np.stack(masks)

        yield from prefetch(batch, itertools.count(), most=3)


def reader(examples: Examples, num_classes: int) -> Read:
    """What reads and checks the files of a list, as the package's pipeline does."""
    return lambda index: checked_pair(
        examples.images[index], examples.masks[index], num_classes, examples.mask_format
    )


def kept(read: Read, count: int) -> Read:
    """A reader that has read all before and kept it in memory."""
    stored = [read(index) for index in range(count)]
    return stored.__getitem__
