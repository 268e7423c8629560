"""OpenVINO: an .xml file of the network and a .bin file of its weights beside it."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import keras

from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.export.labelling import label_module, model_to_export, new_file
from keras_exfuse.export.tensorflow_process import write_under_tensorflow


def export_openvino(
    model: keras.Model, path: str | os.PathLike[str], *, fuse: bool = True, overwrite: bool = False
) -> Path:
    """Write a model for OpenVINO: `images` uint8 (B, H, W, 3) to `labels` (B, H, W), any batch, height and width.

    Weights are stored in float32. On CPUs that have bfloat16, OpenVINO computes in it unless it is told
    otherwise: `openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})`.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: File to write, ending in `.xml`; the weights go into a file of the same name in `.bin`.
        fuse: Whether to fold what can be folded first (`keras_exfuse.fuse_for_inference`).
        overwrite: Whether files that are there are replaced.

    Returns:
        The `.xml` file.

    Raises:
        ValueError: If a file is there already and `overwrite` is false, or the name has another ending.
        ImportError: If TensorFlow or OpenVINO is not installed.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export.export_openvino(model, "exfuse.xml")  # doctest: +SKIP
    """
    path = new_file(path, ".xml", overwrite)
    weights = new_file(path.with_suffix(".bin"), ".bin", overwrite)
    require("openvino", extra="openvino")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.xml"
        write_under_tensorflow("openvino:write", model, written, {"fuse": fuse})
        # The network goes last: where it stands, its weights do too.
        replace_file(weights, partial(shutil.copyfile, written.with_suffix(".bin")))
        replace_file(path, partial(shutil.copyfile, written))
    return path


def write(model: keras.Model, path: Path, fuse: bool) -> None:
    """Write both files; called by `write_under_tensorflow`."""
    tf, openvino = require("tensorflow", extra="export"), require("openvino", extra="openvino")
    module = label_module(model_to_export(model, fuse))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.labels})
        converted = openvino.convert_model(folder)
    openvino.save_model(converted, str(path), compress_to_fp16=False)
