"""What every format has in common: from images RGB 0..255 to labels of their size, without what training needs."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._constants import STRIDE
from keras_exfuse._kernels.dispatch import without
from keras_exfuse._optional import require
from keras_exfuse.backbones.efficientnet_lite import even_sides
from keras_exfuse.layers.resize import CropLike, PadToMultiple


def model_to_export(model: keras.Model, fuse: bool, winograd: bool = False) -> keras.Model:
    """The part of a model that labels images of any size, as `Predictor` runs it.

    Heads of auxiliary losses are left out. A model that does not pad by itself is padded to a multiple of 32
    with the mean color and its logits are cropped, since `Predictor` does the same.

    Args:
        model: From RGB 0..255 (B, H, W, 3) to logits (B, H, W, num_classes).
        fuse: Whether to fold what can be folded (`keras_exfuse.fuse_for_inference`).
        winograd: As in `fuse_for_inference`: not for runtimes that choose how they convolve.

    Returns:
        A functional model from float32 images to logits.

    Raises:
        ValueError: If the model has several outputs or one that is no map of logits.
    """
    check_segmentation(model)
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if fuse:
        from keras_exfuse.inference.fusion import fuse_for_inference

        model = fuse_for_inference(model, winograd)
    if any(isinstance(layer, PadToMultiple) for layer in model.layers):
        return model
    image = keras.Input((None, None, 3), name="image")
    logits = model(PadToMultiple(STRIDE)(image), training=False)
    return keras.Model(image, CropLike()([logits, image]), name=model.name)


def check_segmentation(model: keras.Model) -> int:
    """The number of classes, or a `ValueError` if the model's output is no map of logits."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or not isinstance(shape[-1], int) or shape[-1] < 2:
        raise ValueError(
            "Expected a segmentation model with one output, logits (batch, height, width, classes) of two classes or "
            f"more. Received a model whose output shape is {shape}."
        )
    channels = model.input_shape[-1]
    if channels != 3:
        raise ValueError(
            f"Only models of RGB images are exported, and this one takes {channels} channels. Use "
            "keras_exfuse.Predictor, which takes arrays and GeoTIFFs of them."
        )
    return shape[-1]


def label_type_of(model: keras.Model) -> str:
    """The type of labels: "uint8", or "uint16" where 255 means a class."""
    return "uint8" if model.output_shape[-1] <= 255 else "uint16"


def label_module(model: keras.Model) -> Any:
    """Under TensorFlow: images to labels as the one function of a `tf.Module`, which holds the variables.

    The converters look for variables in the module; they do not find those of a Keras model, and then write
    files that read variables that nothing has set.

    Args:
        model: What `model_to_export` returns.

    Returns:
        A `tf.Module` with `labels`: a `tf.function` from `images` uint8 (B, H, W, 3) to `labels` (B, H, W).
    """
    tf = require("tensorflow", extra="export")
    label_type = label_type_of(model)

    def labels(images):
        with without("patches"), even_sides() if halves_evenly(model) else nullcontext():
            logits = model(tf.cast(images, tf.float32), training=False)
        return {"labels": tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), label_type)}

    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    module.labels = tf.function(labels, input_signature=[images], autograph=False)
    return module


def halves_evenly(model: keras.Model) -> bool:
    """Whether every map of the model that is halved has even sides: five times at most, from multiples of 32."""
    layers = model._flatten_layers()
    multiples = [each.multiple for each in layers if isinstance(each, PadToMultiple)]
    halvings = sum(int(np.max(each.strides)) > 1 for each in layers if hasattr(each, "strides"))
    return bool(multiples) and min(multiples) % STRIDE == 0 and 2**halvings <= STRIDE


def new_file(path: str | os.PathLike[str], suffix: str, overwrite: bool) -> Path:
    """The path of a file that may be written.

    Raises:
        ValueError: If it does not end in `suffix`, or is there already and `overwrite` is false.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"{path}: expected a file name that ends in {suffix}.")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already. Choose another name, or pass overwrite=True.")
    return path
