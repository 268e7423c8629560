"""Data sets in the form of other libraries."""

from typing import Any

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse.data.errors import DATA_ERROR, data_error_message
from keras_exfuse.data.readable import readable


def from_segmentation_dictionaries(dataset: Any) -> Any:
    """Take keras-cv's dictionaries to the pairs that `fit` wants.

    Keras and keras-cv keep a segmentation batch as `{"images": ..., "segmentation_masks": ...}`, with masks
    of shape (B, H, W, 1) that their augmentation layers return as floats.

    Args:
        dataset: `tf.data.Dataset` of such dictionaries, or one dictionary of arrays.

    Returns:
        The same as (image, mask): the mask uint8 without its last axis.

    Raises:
        ValueError: If a key is missing. A mask with a fraction in it (interpolated labels) or with a label
            outside 0..255 stops the iteration.

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
        checks = []
        if mask.dtype.is_floating:
            whole = tf.reduce_all(mask == tf.round(mask))
            message = f"{DATA_ERROR} a mask holds fractions; labels were interpolated."
            checks.append(tf.debugging.Assert(whole, [message]))
        if mask.dtype not in (tf.uint8, tf.bool):
            wide = mask if mask.dtype.is_floating else tf.cast(mask, tf.int64)
            inside = tf.reduce_all((wide >= 0) & (wide <= IGNORE_CLASS))
            message = f"{DATA_ERROR} a mask holds labels outside 0..255; what does not count is 255."
            checks.append(tf.debugging.Assert(inside, [message]))
        with tf.control_dependencies([check for check in checks if check is not None]):  # None when eager.
            mask = tf.identity(mask)
        return batch["images"], tf.cast(mask, tf.uint8)

    if isinstance(dataset, tf.data.Dataset):
        return readable(dataset.map(tf.autograph.experimental.do_not_convert(pair)))
    try:
        return pair(dataset)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(data_error_message(error) or str(error)) from error
