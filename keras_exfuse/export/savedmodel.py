"""TensorFlow SavedModel: images, or their files, in, labels out; no Keras needed to run it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._constants import STRIDE
from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.export.encoded import checked_pixels, label_files
from keras_exfuse.export.labelling import check_segmentation, label_type_of, model_to_export
from keras_exfuse.export.tensorflow_process import write_under_tensorflow

#: One image of 2048 x 2048, or 16 of 512 x 512.
MAX_PIXELS = 2**22
#: The asset with a name and a color for each class.
CLASSES_FILE = "classes.json"
SIGNATURES = ("serving_default", "scores", "encoded", "encoded_bytes")


def export_savedmodel(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    fuse: bool = True,
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> Path:
    """Write a SavedModel for TensorFlow Serving, MLServer, or `tf.saved_model.load`.

    It has four signatures, for any batch size, height and width:

    - `serving_default`: `images` uint8 (B, H, W, 3) to `labels` uint8 (B, H, W), uint16 above 255 classes;
    - `scores`: the same to `scores` float32 (B, H, W, num_classes), probabilities;
    - `encoded`: `encoded` (B,), the bytes of JPEG or PNG files of different sizes, to `labels_png` (B,), for
      each a gray PNG of labels (16 bits above 255 classes) at its image's own size. A file that is empty,
      truncated, no image or too large is refused, before any is decoded, with a text that says so; the whole
      batch then fails;
    - `encoded_bytes`: the same to `labels_png_bytes`, since the HTTP interface of TensorFlow Serving puts only
      outputs of such a name into JSON as base64.

    `assets/classes.json` lists the label, name and color of each class, and
    `assets.extra/tf_serving_warmup_requests` holds requests that TensorFlow Serving runs before it says it is
    ready. TensorFlow writes all this, in a process of its own if another backend is active.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: Folder to write. TensorFlow Serving wants a number as its last part: `serving/exfuse/1`.
        fuse: Whether to fold what can be folded first (`keras_exfuse.fuse_for_inference`).
        class_names: A name for each class; by default those of `model.class_names`, which `keras_exfuse.load` sets,
            else "class N".
        palette: (N, 3) uint8 colors, one for each class; the VOC palette by default.
        max_pixels: Most pixels that are computed for a request: height times width, rounded up to multiples of 32 as
            the model pads them, times the images of the batch; of files, the sum. At least 1024. It bounds a
            request's time and memory.
        overwrite: Whether a folder that is there is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder is there already and `overwrite` is false, or an argument does not fit.
        ImportError: If TensorFlow or tensorflow-serving-api is not installed.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export_savedmodel(model, "serving/exfuse/1")  # doctest: +SKIP
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already. Choose another version number, or pass overwrite=True.")
    if path.is_file():
        raise ValueError(f"{path} is a file; a SavedModel is a folder. Choose another name.")
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < STRIDE**2:
        raise ValueError(
            f"`max_pixels` must be an int of at least {STRIDE**2}, what the smallest image takes, got {max_pixels!r}."
        )
    if class_names is None:
        class_names = getattr(model, "class_names", None)
    classes = describe_classes(check_segmentation(model), class_names, palette)
    options = {"fuse": fuse, "classes": classes, "max_pixels": max_pixels}
    return replace_file(
        path, lambda temporary: write_under_tensorflow("savedmodel:write", model, temporary, options)
    )


def describe_classes(
    count: int, class_names: Sequence[str] | None, palette: np.ndarray | None
) -> list[dict[str, Any]]:
    """Label, name and color of each class, as `classes.json` lists them.

    Raises:
        ValueError: If there are not as many names, or too few colors.
    """
    from keras_exfuse.data import voc_palette

    names = [f"class {label}" for label in range(count)] if class_names is None else list(class_names)
    if len(names) != count:
        raise ValueError(f"`class_names` must name the model's {count} classes, got {len(names)}: {names}.")
    # The VOC palette ends at 256 colors, and then starts again.
    colors = voc_palette()[np.arange(count) % 256] if palette is None else np.asarray(palette)
    if colors.ndim != 2 or colors.shape[1] != 3 or len(colors) < count:
        raise ValueError(f"`palette` must have shape (N, 3) with N >= {count} classes, got {colors.shape}.")
    return [
        {"label": label, "name": str(name), "color": [int(value) for value in colors[label]]}
        for label, name in enumerate(names)
    ]


# === Under TensorFlow ===


def write(model: keras.Model, path: Path, fuse: bool, classes: list[dict[str, Any]], max_pixels: int) -> None:
    """Write the folder; called by `write_under_tensorflow`."""
    from keras_exfuse.export.warmup import write_warmup_requests

    tf = require("tensorflow", extra="export")
    served = _served_module(model_to_export(model, fuse, winograd=True), max_pixels)
    path.mkdir(parents=True)
    source = path / CLASSES_FILE
    source.write_text(json.dumps(classes, indent=1))
    served.classes = tf.saved_model.Asset(str(source))
    signatures = {name: getattr(served, name) for name in SIGNATURES}
    tf.saved_model.save(served, str(path), signatures=signatures)
    source.unlink()  # It has been copied to assets/.
    write_warmup_requests(path, max_pixels)


def _served_module(model: keras.Model, max_pixels: int) -> Any:
    """A `tf.Module` of the functions and the variables: an `ExportArchive` writes each variable twice."""
    tf = require("tensorflow", extra="export")
    image_batch = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    files = tf.TensorSpec((None,), tf.string, name="encoded")

    # The model is traced once, for all of them.
    @tf.function(input_signature=[image_batch], autograph=False)
    def logits(images):
        # A model of mixed precision may end in float16.
        return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    label_type = label_type_of(model)

    def labels(images):
        return tf.cast(tf.argmax(logits(images), axis=-1, output_type=tf.int32), label_type)

    def checked(images):
        shape = tf.shape(images, out_type=tf.int64)
        with tf.control_dependencies([checked_pixels(shape[0], shape[1:3], max_pixels, ["in the batch"])]):
            return tf.identity(images)

    def serving_default(images):
        return {"labels": labels(checked(images))}

    def scores(images):
        return {"scores": tf.nn.softmax(logits(checked(images)))}

    def encoded(encoded):
        return {"labels_png": label_files(encoded, labels, max_pixels)}

    def encoded_bytes(encoded):
        return {"labels_png_bytes": module.encoded(encoded)["labels_png"]}

    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    module.serving_default = tf.function(serving_default, input_signature=[image_batch], autograph=False)
    module.scores = tf.function(scores, input_signature=[image_batch], autograph=False)
    module.encoded = tf.function(encoded, input_signature=[files], autograph=False)
    module.encoded_bytes = tf.function(encoded_bytes, input_signature=[files], autograph=False)
    return module
