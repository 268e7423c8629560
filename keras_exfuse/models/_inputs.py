"""What comes into a model, checked: classes, pictures, masks, labels; with errors that help."""

import contextlib

import keras
import numpy as np
from keras import ops

DATA_ERROR = "keras_exfuse data error:"


def check_num_classes(num_classes, reason):
    """Raise a `ValueError`, with the reason, unless there are at least two classes."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"`num_classes` must be an int of at least 2: {reason}. Received: num_classes={num_classes!r}"
        )


def check_images(images):
    """Raise a `ValueError` unless an array of pictures is (B, H, W, 3) with sides of at least 32."""
    shape = getattr(images, "shape", None)
    if shape is None or isinstance(images, keras.utils.PyDataset):
        return
    if len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            "Expected pictures as RGB of shape (batch, height, width, 3), values 0..255. Received shape "
            f"{tuple(shape)}. Repeat a gray picture three times, drop an alpha channel, or add the batch "
            "dimension."
        )
    if shape[0] == 0:
        raise ValueError("Received an empty batch: no pictures. Give at least one.")
    if any(size is not None and size < 32 for size in shape[1:3]):
        raise ValueError(
            f"Pictures must be at least 32 pixels high and wide. Received shape {tuple(shape)}. "
            "Resize or pad them."
        )


def as_label_map(mask, logits):
    """The mask as (B, H, W) int32, or a `ValueError` about its type or shape."""
    if isinstance(mask, (dict, list, tuple)) or mask is None:
        raise ValueError(
            "Expected one integer mask (batch, height, width) as the target: the auxiliary targets are "
            f"derived from it. Received: {type(mask).__name__}"
        )
    _check_mask_dtype(mask)
    if getattr(mask.shape, "rank", 0) is None:
        # TensorFlow forgets the rank where one function has seen masks with and without a last axis of 1.
        return ops.cast(ops.reshape(mask, ops.shape(logits)[:3]), "int32")
    shape, wanted = tuple(mask.shape), tuple(logits.shape[:3])
    if len(shape) == 4 and shape[3] == 1:
        mask = ops.squeeze(mask, axis=-1)
    agree = all(
        have is None or want is None or have == want for have, want in zip(shape, wanted, strict=False)
    )
    if len(mask.shape) != 3 or not agree:
        raise ValueError(
            "Masks and pictures must agree in batch, height and width: expected a mask of shape "
            f"{wanted} or {(*wanted, 1)}. Received shape {shape}."
        )
    return ops.cast(mask, "int32")


def _check_mask_dtype(mask):
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if not (dtype.startswith(("int", "uint"))):
        raise ValueError(
            "Masks must be of an integer type, class indices with 255 for pixels that do not count. "
            f"Received: {dtype}. Cast them, e.g. mask.astype('uint8')."
        )


def _check_label_values(mask, num_classes, ignore_class):
    wrong = mask[(mask != ignore_class) & ((mask < 0) | (mask >= num_classes))]
    if wrong.size:
        raise ValueError(
            f"Masks may hold the labels 0..{num_classes - 1} and {ignore_class} (does not count). Received "
            f"also: {np.unique(wrong)[:10].tolist()}. Raise `num_classes`, or map these labels to "
            f"{ignore_class}."
        )


def checked(x, y, num_classes, ignore_class):
    """Pictures and masks for `fit` and `evaluate`, checked.

    Arrays are checked at once; a `tf.data.Dataset` gets checks that run with it, so that a bad label stops
    training on every backend (JAX itself would train on it silently). Generators, `PyDataset`s and torch
    loaders pass through; their shapes and types are checked when a batch meets the loss.
    """
    if _is_tf_dataset(x):
        return _checked_dataset(x, num_classes, ignore_class), y
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        check_images(x)
        if x.shape[:3] != y.shape[:3] or y.ndim not in (3, 4) or (y.ndim == 4 and y.shape[3] != 1):
            raise ValueError(
                "Masks and pictures must agree in batch, height and width. Received pictures of shape "
                f"{x.shape} and masks of shape {y.shape}; expected masks of shape {x.shape[:3]} or "
                f"{(*x.shape[:3], 1)}."
            )
        _check_mask_dtype(y)
        _check_label_values(y, num_classes, ignore_class)
    return x, y


def _is_tf_dataset(x):
    # By name, so that TensorFlow is not imported under another backend.
    return any(
        kind.__module__.startswith("tensorflow") and kind.__name__ == "DatasetV2" for kind in type(x).__mro__
    )


def _checked_dataset(dataset, num_classes, ignore_class):
    import tensorflow as tf  # The user's data set is TensorFlow's, so it is there.

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            "Expected a data set of (pictures, masks) batches. Received elements of the structure "
            f"{tf.nest.map_structure(lambda part: part.shape, spec)}. For dictionaries, see "
            "keras_exfuse.data.from_segmentation_dictionaries."
        )
    if int(dataset.cardinality()) == 0:
        raise ValueError(
            "The data set is empty: it has no batches. Check the folder, the split and `drop_remainder`."
        )
    images, masks = spec[:2]
    if images.shape.rank is not None:
        check_images(images)
    _check_mask_dtype(tf.zeros((), masks.dtype))

    def check(image, mask, *weight):
        label = tf.cast(mask, tf.int32)
        good = (label == ignore_class) | ((label >= 0) & (label < num_classes))
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(
                    tf.shape(image)[:3],
                    tf.shape(mask)[:3],
                    message=f"{DATA_ERROR} masks and pictures must agree in batch, height and width.",
                ),
                tf.debugging.Assert(
                    tf.reduce_all(good),
                    [
                        f"{DATA_ERROR} masks may hold the labels 0..{num_classes - 1} and {ignore_class} "
                        f"(does not count). Raise `num_classes`, or map others to {ignore_class}. Found:",
                        tf.unique(tf.boolean_mask(label, ~good))[0],
                    ],
                ),
            ]
        ):
            return (image, tf.identity(mask), *weight)

    return dataset.map(check, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


@contextlib.contextmanager
def readable_errors():
    """Turn errors that checks inside a `tf.data` pipeline raise into `ValueError`s with their text alone."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if isinstance(error, ValueError) or DATA_ERROR not in text:
            raise
        text = text[text.index(DATA_ERROR) + len(DATA_ERROR) :].strip()
        raise ValueError(text.split("\n\t [[")[0]) from error
