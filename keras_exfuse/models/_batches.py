"""What comes into `fit` and `evaluate`, checked batch by batch in whatever form it comes, with errors that help."""

import contextlib
import dataclasses
import types
from typing import ClassVar

import keras
import numpy as np

from keras_exfuse.models._values import as_array, check_values, judge

# In front of the text of an error inside a data pipeline: TensorFlow and torch's workers surround it with pages.
DATA_ERROR = "keras_exfuse data error:"


@dataclasses.dataclass(frozen=True)
class BatchCheck:
    """What batches of (images, targets) have to look like; subclasses say it of masks and of labels.

    A check is plain data, so that it travels to the processes of a `PyDataset`.
    """

    num_classes: int
    # Of the images.
    channels: int = 3

    # What a batch is called, and what helps who has another.
    pair: ClassVar[str]
    other_structures: ClassVar[str]
    # How many axes images and targets share, from the first on, and what they are called.
    shared_axes: ClassVar[int]
    shared_sides: ClassVar[str]

    def check_type(self, targets):
        """Raise a `ValueError` about the type of the targets, or their dtype."""
        raise NotImplementedError

    def check_shape(self, images, targets):
        """Raise a `ValueError` unless the known sides of images and targets agree."""
        raise NotImplementedError

    def is_valid(self, targets):
        """Which labels may be there, of a numpy array or a TensorFlow tensor."""
        raise NotImplementedError

    @property
    def expectation(self) -> str:
        """Which labels may be there, as a sentence without its stop."""
        raise NotImplementedError

    @property
    def advice(self) -> str:
        """What to do about others, as a sentence."""
        raise NotImplementedError

    def note(self, targets):
        """Take note of valid targets, a numpy array; overridden by what notices something."""

    def noted(self, targets):
        """In graph: operations that take note of valid targets, a TensorFlow tensor."""
        return []

    def __call__(self, images, targets, doubtful_is_error=True):
        """Raise a `ValueError` unless arrays or tensors of any backend are as they should be."""
        check_images(images, self.channels, doubtful_is_error)
        self.check_type(targets)
        self.check_shape(images, targets)
        values = as_array(targets)
        valid = self.is_valid(values)
        if not valid.all():
            wrong = np.unique(values[~valid])[:10].tolist()
            raise ValueError(f"{self.expectation}. Received also: {wrong}. {self.advice}")
        self.note(values)

    def check_batch(self, batch):
        """The same for what a data set gives; what is no pair is left to Keras, and to the model's loss."""
        if isinstance(batch, (tuple, list)) and len(batch) in (2, 3) and batch[1] is not None:
            self(batch[0], batch[1], doubtful_is_error=False)


@dataclasses.dataclass(frozen=True)
class ImageCheck:
    """What batches of images for `predict` have to look like."""

    channels: int = 3

    def check_batch(self, batch):
        """Raise a `ValueError` unless the images of a batch are as they should be."""
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        check_images(images, self.channels, doubtful_is_error=False)


def check_images(images, channels=3, doubtful_is_error=True):
    """Raise a `ValueError` unless a batch of images is (B, H, W, channels), 0..255, with sides of at least 32.

    Args:
        images: Array or tensor; what has no shape is left to Keras.
        channels: Int, of the images.
        doubtful_is_error: As in `check_values`.
    """
    if getattr(images, "shape", None) is None or isinstance(images, keras.utils.PyDataset):
        return
    _check_image_shape(images, channels)
    check_values(images, doubtful_is_error=doubtful_is_error)


def _check_image_shape(images, channels):
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[1] == channels and shape[3] != channels:
        raise ValueError(
            f"Expected images with their channels last, (batch, height, width, {channels}). Received channels first, "
            f"shape {shape}. Move them, e.g. np.moveaxis(images, 1, -1)."
        )
    if (len(shape) != 4 or shape[3] != channels) and channels != 3:
        raise ValueError(
            f"Expected images of shape (batch, height, width, {channels}), values 0..255: the model was made with "
            f"input_channels={channels}. Received shape {shape}. Give all channels, or add the batch dimension."
        )
    if len(shape) != 4 or shape[3] != channels:
        raise ValueError(
            "Expected images as RGB of shape (batch, height, width, 3), values 0..255. Received shape "
            f"{shape}. Repeat a gray image three times, drop an alpha channel, or add the batch "
            "dimension."
        )
    if shape[0] == 0:
        raise ValueError("Received an empty batch: no images. Give at least one.")
    if any(size is not None and size < 32 for size in shape[1:3]):
        raise ValueError(
            f"Images must be at least 32 pixels high and wide. Received shape {shape}. Resize or pad them."
        )


def checked(x, y, check: BatchCheck):
    """Images and targets for `fit` and `evaluate`, checked.

    Arrays and tensors are checked at once. Whatever gives batches is wrapped, so that each batch is checked when it
    comes: a bad label stops training on every backend (JAX itself would train on it silently). Nothing is read ahead.
    Other kinds of data, such as Grain's, pass as they are; their shapes and types are checked when they meet the loss.

    Args:
        x: Images as an array or a tensor; or batches, as a `tf.data.Dataset`, a generator, a `keras.utils.PyDataset`
            or a torch `DataLoader`.
        y: Targets as an array or a tensor; `None` beside batches.
        check: What they have to look like.

    Returns:
        `x` and `y` to pass on to Keras.

    Raises:
        ValueError: If something is wrong that is known before the first batch.
    """
    batches = _checked_batches(x, check, _checked_dataset)
    if batches is not None:
        return batches, y
    if y is not None:
        check(x, y)
    return x, y


def checked_images(x, channels=3):
    """Images for `predict`, checked as in `checked`.

    Args:
        x: Images as an array or a tensor; or batches of them, of any kind that `checked` takes.
        channels: Int, of the images.

    Returns:
        `x` to pass on to Keras.

    Raises:
        ValueError: If something is wrong that is known before the first batch.
    """
    batches = _checked_batches(x, ImageCheck(channels), _checked_image_dataset)
    if batches is not None:
        return batches
    check_images(x, channels)
    return x


def _checked_batches(x, check, checked_dataset):
    """What gives batches, wrapped; `None` for anything else."""
    if _is_kind(x, "tensorflow", "DatasetV2"):
        return checked_dataset(x, check)
    if isinstance(x, keras.utils.PyDataset):
        return CheckedPyDataset(x, check)
    if _is_kind(x, "torch.utils.data", "DataLoader"):
        return _checked_loader(x, check)
    if isinstance(x, types.GeneratorType):
        return _checked_generator(x, check)
    return None


def _is_kind(x, module, name):
    # By name, so that TensorFlow and torch are not imported under another backend.
    return any(kind.__module__.startswith(module) and kind.__name__ == name for kind in type(x).__mro__)


def _check_batch(batch, check):
    """Return a batch as it is, or raise a `ValueError` that `readable_errors` knows."""
    try:
        check.check_batch(batch)
    except ValueError as error:
        raise ValueError(f"{DATA_ERROR} {error}") from error
    return batch


def _checked_generator(batches, check):
    for batch in batches:
        yield _check_batch(batch, check)


class CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are checked; everything else is the data set's own.

    Args:
        dataset: The `PyDataset`.
        check: What its batches have to look like.
    """

    def __init__(self, dataset, check):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.check = check

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, index):
        return _check_batch(self.dataset[index], self.check)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def _checked_loader(loader, check):
    import torch  # The user's loader is torch's, so it is there.

    class CheckedLoader(torch.utils.data.DataLoader):
        """A loader whose batches are checked when they arrive; everything else is the loader's own."""

        def __init__(self):
            # Its attributes, for Keras to read; its iterators, workers and all, are made by the loader itself.
            self.__dict__.update(loader.__dict__)

        def __iter__(self):
            for batch in loader:
                yield _check_batch(batch, check)

        def __len__(self):
            return len(loader)

    return CheckedLoader()


def _checked_dataset(dataset, check):
    import tensorflow as tf  # The user's data set is TensorFlow's, so it is there.

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"Expected a data set of {check.pair} batches. Received elements of the structure "
            f"{tf.nest.map_structure(lambda part: part.shape, spec)}. {check.other_structures}"
        )
    if int(dataset.cardinality()) == 0:
        raise ValueError(
            "The data set is empty: it has no batches. Check its source, the split and `drop_remainder`."
        )
    images, targets = spec[:2]
    check.check_type(targets)
    if images.shape.rank is not None:
        _check_image_shape(images, check.channels)
        if targets.shape.rank is not None:
            check.check_shape(images, targets)

    def check_in_graph(image, target, *weight):
        shared = [tf.shape(part)[: check.shared_axes] for part in (image, target)]
        valid = check.is_valid(tf.cast(target, tf.int64))
        wrong = tf.unique(tf.boolean_mask(tf.cast(target, tf.int64), ~valid))[0]
        assertions = [
            tf.debugging.Assert(
                tf.reduce_all(tf.equal(*shared)),
                [f"{DATA_ERROR} {check.pair} must agree in {check.shared_sides}. Received:", *shared],
            ),
            tf.debugging.Assert(
                tf.reduce_all(valid),
                [f"{DATA_ERROR} {check.expectation}. {check.advice} Received also:", wrong],
            ),
        ]
        with tf.control_dependencies([*assertions, *_value_checks_in_graph(image)]):
            target = tf.identity(target)
        with tf.control_dependencies(check.noted(target)):
            return (image, tf.identity(target), *weight)

    return dataset.map(check_in_graph, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _checked_image_dataset(dataset, check):
    import tensorflow as tf  # The user's data set is TensorFlow's, so it is there.

    spec = dataset.element_spec
    images = spec[0] if isinstance(spec, tuple) else spec
    if getattr(images, "shape", None) is None or images.shape.rank is None:
        return dataset
    _check_image_shape(images, check.channels)

    def check_in_graph(*parts):
        with tf.control_dependencies(_value_checks_in_graph(parts[0])):
            image = tf.identity(parts[0])
        return (image, *parts[1:]) if isinstance(spec, tuple) else image

    return dataset.map(check_in_graph, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _value_checks_in_graph(images):
    """The operations that check the values of images in a pipeline; none for uint8, which cannot be wrong."""
    import tensorflow as tf

    kind = images.dtype.name
    if kind in ("uint8", "bool"):
        return []

    def check(lowest, highest, whole):
        try:
            judge(kind, lowest, highest, lambda: whole, doubtful_is_error=False)
        except ValueError as error:
            raise ValueError(f"{DATA_ERROR} {error}") from error
        return True

    values = tf.cast(images, tf.float64 if kind == "float64" else tf.float32)
    finite = tf.reduce_all(tf.math.is_finite(values))
    highest = tf.where(finite, tf.reduce_max(values), float("nan"))
    found = [tf.reduce_min(values), highest, tf.reduce_all(values == tf.floor(values))]
    return [tf.numpy_function(check, found, tf.bool)]


@contextlib.contextmanager
def readable_errors(model=None):
    """Turn errors of checks inside a data pipeline into `ValueError`s with their text alone.

    Args:
        model: The model whose `fit` or `evaluate` runs inside; whatever stops it, the model keeps its weights.
    """
    try:
        yield
    except BaseException as error:
        # While it runs, Keras's JAX trainer holds the weights: without this a stopped `evaluate` takes them along.
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        text = str(error)
        if DATA_ERROR not in text:
            raise
        # Our text is one line; TensorFlow appends the failed operation, or the traceback of the Python function.
        raise ValueError(text.split(DATA_ERROR, 1)[1].strip().splitlines()[0]) from error
