"""ONNX: one file for ONNX Runtime and whatever else reads it."""

import os
from pathlib import Path

import keras

from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.export.labelling import label_module, model_to_export, new_file
from keras_exfuse.export.tensorflow_process import write_under_tensorflow

OPERATOR_SET = 18


def export_onnx(
    model: keras.Model, path: str | os.PathLike[str], *, fuse: bool = True, overwrite: bool = False
) -> Path:
    """Write an ONNX file: `images` uint8 (B, H, W, 3) to `labels` (B, H, W), any batch, height and width.

    tf2onnx converts it, in a process of its own if another backend than TensorFlow is active.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: File to write, ending in `.onnx`.
        fuse: Whether to fold what can be folded first (`keras_exfuse.fuse_for_inference`).
        overwrite: Whether a file that is there is replaced.

    Returns:
        The file.

    Raises:
        ValueError: If the file is there already and `overwrite` is false, or the name has another ending.
        ImportError: If TensorFlow or tf2onnx is not installed.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export.export_onnx(model, "exfuse.onnx")  # doctest: +SKIP
    """
    path = new_file(path, ".onnx", overwrite)
    require("tf2onnx", extra="onnx")
    return replace_file(
        path, lambda temporary: write_under_tensorflow("onnx:write", model, temporary, {"fuse": fuse})
    )


def write(model: keras.Model, path: Path, fuse: bool) -> None:
    """Write the file; called by `write_under_tensorflow`."""
    tf2onnx, onnx = require("tf2onnx", extra="onnx"), require("onnx", extra="onnx")
    labels = label_module(model_to_export(model, fuse)).labels
    converted, _ = tf2onnx.convert.from_function(
        labels, input_signature=labels.input_signature, opset=OPERATOR_SET
    )
    # The sizes that only a run knows come out as "unk__123"; names tell a reader which of them agree.
    for value in (*converted.graph.input, *converted.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        for dimension, name in zip(dimensions, ("batch", "height", "width"), strict=False):
            dimension.dim_param = name
    onnx.checker.check_model(converted)
    onnx.save(converted, str(path))
