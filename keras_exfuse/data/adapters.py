"""Data sets in the form of other libraries."""

from typing import Any

from keras_exfuse._optional import require


def from_segmentation_dictionaries(dataset: Any) -> Any:
    """Take keras-cv's dictionaries to the pairs that `fit` wants.

    Keras and keras-cv keep a segmentation batch as `{"images": ..., "segmentation_masks": ...}`, with masks
    of shape (B, H, W, 1) that their augmentation layers return as floats.

    Args:
        dataset: `tf.data.Dataset` of such dictionaries, or one dictionary of arrays.

    Returns:
        The same as (image, mask): the mask uint8 without its last axis.

    Raises:
        ValueError: If a key is missing. A mask with a fraction in it (interpolated labels) stops the
        iteration.

    Example:

    >>> model.fit(from_segmentation_dictionaries(train))  # doctest: +SKIP
    """
    tf = require("tensorflow", extra="data")

    def pair(batch: Any) -> tuple[Any, Any]:
        missing = {"images", "segmentation_masks"} - set(batch)
        if missing:
            raise ValueError(
                f"Expected dictionaries with 'images' and 'segmentation_masks', got {sorted(batch)}; "
                f"{' and '.join(sorted(missing))} missing."
            )
        mask = tf.convert_to_tensor(batch["segmentation_masks"])
        if mask.shape.rank is not None and mask.shape[-1] == 1:
            mask = mask[..., 0]
        if mask.dtype.is_floating:
            whole = tf.reduce_all(mask == tf.round(mask))
            message = "keras_exfuse data error: a mask holds fractions; labels were interpolated."
            with tf.control_dependencies([tf.debugging.Assert(whole, [message])]):
                mask = tf.round(mask)
        return batch["images"], tf.cast(mask, tf.uint8)

    if isinstance(dataset, tf.data.Dataset):
        return dataset.map(tf.autograph.experimental.do_not_convert(pair))
    return pair(dataset)
