"""Whether numbers can be the pixels of an image, RGB 0..255: what cannot is refused with its remedy.

Which numbers are refused, so that no image of 0..255 is:

- NaN and infinite values; integers outside of 0..255; floats above 1000, which no augmentation reaches.
- Floats with fractions that all lie in 0..1, and floats of which some are negative and none is above 3: images scaled
  to 0..1, to -1..1, or by mean and standard deviation. As 0..255 they would be black all over. A single batch of a
  data set may be black indeed, so that there these two are warned of, and training goes on.
"""

import warnings

import keras
import numpy as np

# Above this a float is no overshoot of an augmentation, but data of more than eight bits.
_HIGHEST_FLOAT = 1000
# The brightest value behind ImageNet's mean and standard deviation is 2.64.
_HIGHEST_NORMALIZED = 3


def check_values(images, *, doubtful_is_error: bool = True, remedy: str = "") -> None:
    """Raise a `ValueError` unless an array's values can be RGB 0..255.

    Args:
        images: Array, or tensor of any backend, of images.
        doubtful_is_error: Whether scaled floats are refused; a `UserWarning` otherwise.
        remedy: What else helps, as a sentence.
    """
    kind = keras.backend.standardize_dtype(images.dtype)
    values = as_array(images)
    if kind in ("uint8", "bool") or not values.size:
        return
    judge(kind, values.min(), values.max(), lambda: not (values % 1).any(), doubtful_is_error, remedy)


def judge(kind, lowest, highest, is_whole, doubtful_is_error: bool, remedy: str = "") -> None:
    """As `check_values`, from what was found in the values.

    Args:
        kind: Name of the dtype.
        lowest: Their minimum, NaN if there is one.
        highest: Their maximum.
        is_whole: Called without arguments, says whether all are whole numbers.
        doubtful_is_error: As in `check_values`.
        remedy: As in `check_values`.
    """
    lowest, highest = float(lowest), float(highest)
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError(
            "Images must be RGB 0..255, and these hold NaN or infinite values. Find where they come from: a division "
            "by zero in a normalization, or no-data pixels of a raster. Replace them, e.g. np.nan_to_num(images)."
        )
    floats = "float" in kind
    if highest > (_HIGHEST_FLOAT if floats else 255) or (lowest < 0 and not floats):
        raise ValueError(
            f"Images must be RGB 0..255. Received {kind} values {lowest:g}..{highest:g}. Scale the range of your data "
            f"to 0..255: 16 bits by images / 257, 12 bits by images / 16.06.{remedy}"
        )
    if lowest >= 0 and 0 < highest <= 1 and not is_whole():
        text = "within 0..1, which are black. Multiply them by 255, or remove the division by 255"
    elif lowest < 0 and highest <= _HIGHEST_NORMALIZED:
        text = (
            "below 0 and none above 3, as if normalized. Remove your normalization, or undo it: from -1..1 by "
            "(images + 1) * 127.5"
        )
    else:
        return
    text = (
        f"Images must be RGB 0..255: the model normalizes them itself. Received floats {text}. If they are so dark "
        f"indeed, round them to uint8.{remedy}"
    )
    if doubtful_is_error:
        raise ValueError(text)
    warnings.warn(text, stacklevel=2)


def as_array(values) -> np.ndarray:
    """A numpy array of an array, a list, or a tensor of any backend."""
    if hasattr(values, "cpu") and hasattr(values, "detach"):
        values = values.detach().cpu()  # Torch's, which may be on a GPU.
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()  # Numpy has no such type.
    return np.asarray(values)
