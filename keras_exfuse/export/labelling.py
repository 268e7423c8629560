"""What every format has in common: from pictures RGB 0..255 to logits of their size, without what training needs."""

import keras

from keras_exfuse.layers.resize import CropLike, PadToMultiple

STRIDE = 32


def model_to_export(model: keras.Model, fuse: bool) -> keras.Model:
    """The part of a model that labels pictures of any size, as `Predictor` runs it.

    Heads of auxiliary losses are left out. A model that does not pad by itself is padded to a multiple of 32
    with the mean colour and its logits are cropped, since `Predictor` does the same.

    Args:
        model: From RGB 0..255 (B, H, W, 3) to logits (B, H, W, num_classes).
        fuse: Whether to fold what can be folded (`keras_exfuse.fuse_for_inference`).

    Returns:
        A functional model from float32 pictures to logits.

    Raises:
        ValueError: If the model has several outputs or one that is no map of logits.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or not isinstance(shape[-1], int) or shape[-1] < 2:
        raise ValueError(
            "Expected a segmentation model with one output, logits (batch, height, width, classes) of two classes or "
            f"more. Received a model whose output shape is {shape}."
        )
    if fuse:
        from keras_exfuse.inference.fusing import fuse_for_inference

        model = fuse_for_inference(model)
    if any(isinstance(layer, PadToMultiple) for layer in model.layers):
        return keras.Model(model.inputs, model.outputs, name=model.name)
    image = keras.Input((None, None, 3), name="image")
    logits = model(PadToMultiple(STRIDE)(image), training=False)
    return keras.Model(image, CropLike()([logits, image]), name=model.name)


def label_type_of(model: keras.Model) -> str:
    """The type of labels: "uint8", or "uint16" where 255 means a class."""
    return "uint8" if model.output_shape[-1] <= 255 else "uint16"
