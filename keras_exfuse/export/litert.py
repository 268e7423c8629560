"""LiteRT (TensorFlow Lite): one small file for telephones and boards, in float32 or int8."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.export.labelling import label_module, model_to_export, new_file
from keras_exfuse.export.tensorflow_process import write_under_tensorflow


def export_litert(
    model: keras.Model, path: str | os.PathLike[str], *, fuse: bool = True, overwrite: bool = False
) -> Path:
    """Write a float32 LiteRT file: `images` uint8 (B, H, W, 3) to `labels` (B, H, W).

    Any batch, height and width: call `interpreter.resize_tensor_input(index, images.shape)` and
    `interpreter.allocate_tensors()` before an image of a new size.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: File to write, ending in `.tflite`.
        fuse: Whether to fold what can be folded first (`keras_exfuse.fuse_for_inference`).
        overwrite: Whether a file that is there is replaced.

    Returns:
        The file.

    Raises:
        ValueError: If the file is there already and `overwrite` is false, or the name has another ending.
        ImportError: If TensorFlow is not installed.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export.export_litert(model, "exfuse.tflite")  # doctest: +SKIP
    """
    path = new_file(path, ".tflite", overwrite)
    return _replace(path, model, {"fuse": fuse, "samples": None})


def export_litert_int8(
    model: keras.Model,
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[Any],
    *,
    num_images: int = 100,
    fuse: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write a LiteRT file whose weights and maps are int8; sizes and types as in `export_litert`.

    The ranges of the maps are measured on real images, which should be like those that it will label. It is
    about a quarter of the float32 file, and loses some accuracy: measure how much on yours.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: File to write, ending in `.tflite`.
        images: A folder of JPEG and PNG files, or paths or uint8 arrays (H, W, 3) of any sizes.
        num_images: How many of them are used, spread evenly over a folder or list.
        fuse: As in `export_litert`.
        overwrite: As in `export_litert`.

    Returns:
        The file.

    Raises:
        ValueError: If there are no images, or as in `export_litert`.
        ImportError: If TensorFlow is not installed.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export.export_litert_int8(model, "exfuse.tflite", "photos")  # doctest: +SKIP
    """
    path = new_file(path, ".tflite", overwrite)
    arrays = _read(images, num_images)
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "images.npz"
        np.savez(samples, *arrays)
        return _replace(path, model, {"fuse": fuse, "samples": str(samples)})


def _replace(path: Path, model: keras.Model, options: dict[str, Any]) -> Path:
    return replace_file(
        path, lambda temporary: write_under_tensorflow("litert:write", model, temporary, options)
    )


def _read(images: str | os.PathLike[str] | Iterable[Any], most: int) -> list[np.ndarray]:
    """At most so many images, as arrays."""
    from keras_exfuse.data import read_image
    from keras_exfuse.data.reading import images_in

    if most < 1:
        raise ValueError(f"`num_images` must be 1 or more, got {most}.")
    if isinstance(images, (str, os.PathLike)):
        found: list[Any] = list(images_in(Path(images)))
    else:
        found = list(images)
    if not found:
        raise ValueError(
            "There are no images in what was given. int8 needs some, like those that it will label: files, or uint8 "
            "arrays (H, W, 3)."
        )
    chosen = found[:: -(-len(found) // most)]
    arrays = [item if isinstance(item, np.ndarray) else read_image(item) for item in chosen]
    for array in arrays:
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            raise ValueError(
                f"Expected images as uint8 arrays (H, W, 3), got {array.dtype} of shape {array.shape}."
            )
    return arrays


def write(model: keras.Model, path: Path, fuse: bool, samples: str | None) -> None:
    """Write the file; called by `write_under_tensorflow`.

    Args:
        model: As in `export_litert`.
        path: As in `export_litert`.
        fuse: As in `export_litert`.
        samples: An .npz file of images, for int8, or None.
    """
    tf = require("tensorflow", extra="export")
    module = label_module(model_to_export(model, fuse))
    function = module.labels.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # Without float kernels to fall back on: what cannot be int8 is an error, not a slow file.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        with np.load(samples) as arrays:
            images = [arrays[name] for name in arrays.files]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    path.write_bytes(converter.convert())
