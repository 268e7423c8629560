"""Image-level labels that come into a classifier, checked; with errors that help."""

import keras
import numpy as np
from keras import ops

from keras_exfuse.models._inputs import DATA_ERROR, _is_tf_dataset, check_images


def as_label_vector(labels, batch):
    """The labels as (B,) int32, or a `ValueError` about their type or shape.

    Args:
        labels: Integer tensor (B,) or (B, 1).
        batch: Int B, or None where it is not known.
    """
    if labels is None or isinstance(labels, (dict, list, tuple)):
        raise ValueError(
            f"Expected one integer label a picture, of shape (batch,), as the target. Received: {type(labels).__name__}"
        )
    _check_dtype(labels.dtype)
    if getattr(labels.shape, "rank", 0) is None:
        return ops.cast(ops.reshape(labels, (-1,)), "int32")
    _check_shape(tuple(labels.shape), batch)
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def _check_shape(shape, batch=None):
    known = shape and shape[0] is not None and batch is not None
    if shape[1:] not in ((), (1,)) or not shape or (known and shape[0] != batch):
        expected = "(batch,)" if batch is None else f"({batch},)"
        advice = " One-hot labels become integers with labels.argmax(-1)." if len(shape) == 2 else ""
        raise ValueError(
            f"Expected one integer label a picture: labels of shape {expected}. Received shape {shape}.{advice}"
        )


def _check_dtype(dtype):
    name = keras.backend.standardize_dtype(dtype)
    if not name.startswith(("int", "uint")):
        raise ValueError(
            "Labels must be of an integer type, one class index a picture. "
            f"Received: {name}. Cast them, e.g. labels.astype('int32')."
        )


def _check_values(labels, num_classes):
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise ValueError(
            f"Labels may be 0..{num_classes - 1}, since num_classes={num_classes}. Received also: "
            f"{np.unique(wrong)[:10].tolist()}. Raise `num_classes`, or leave these pictures out."
        )


def checked(x, y, num_classes):
    """Pictures and labels for `fit` and `evaluate`, checked.

    Arrays, tensors and lists of labels are checked at once; a `tf.data.Dataset` gets checks that run with it,
    so that a label out of range stops training on every backend (JAX itself would train on it silently).
    Generators, `PyDataset`s and torch loaders pass through; their shapes and types are checked when a batch
    meets the loss.
    """
    if _is_tf_dataset(x):
        return _checked_dataset(x, num_classes), y
    if y is None or isinstance(y, dict):
        return x, y
    check_images(x)
    values = ops.convert_to_numpy(y) if ops.is_tensor(y) else np.asarray(y)
    _check_dtype(values.dtype)
    _check_shape(values.shape, x.shape[0] if hasattr(x, "shape") else None)
    _check_values(values, num_classes)
    return x, values.reshape(-1)


def _checked_dataset(dataset, num_classes):
    import tensorflow as tf  # The user's data set is TensorFlow's, so it is there.

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            "Expected a data set of (pictures, labels) batches. Received elements of the structure "
            f"{tf.nest.map_structure(lambda part: part.shape, spec)}. Map it to such pairs first."
        )
    if int(dataset.cardinality()) == 0:
        raise ValueError("The data set is empty: it has no batches. Check its source and `drop_remainder`.")
    images, labels = spec[:2]
    if images.shape.rank is not None:
        check_images(images)
    _check_dtype(labels.dtype)
    if labels.shape.rank is not None:
        _check_shape(tuple(labels.shape))

    def check(image, label, *weight):
        good = (label >= 0) & (tf.cast(label, tf.int64) < num_classes)
        message = (
            f"{DATA_ERROR} labels may be 0..{num_classes - 1}, since num_classes={num_classes}. "
            "Raise `num_classes`, or leave these pictures out. Found:"
        )
        found = tf.unique(tf.boolean_mask(label, ~good))[0]
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(good), [message, found])]):
            return (image, tf.identity(label), *weight)

    return dataset.map(check, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
