"""Backbones: models from an image to four feature maps at strides 4, 8, 16 and 32."""

import difflib
from pathlib import Path

import keras

from keras_exfuse.backbones.adapters import adapt_backbone, from_layers, with_normalization
from keras_exfuse.backbones.normalization import ImageNormalization
from keras_exfuse.backbones.resnet import build_resnet
from keras_exfuse.backbones.table import BACKBONES
from keras_exfuse.backbones.weights import load_weights


def create_backbone(
    backbone: str | keras.Model, weights: str | Path | None = None, input_channels: int = 3
) -> keras.Model:
    """Make a backbone from its name, or from a model.

    Args:
        backbone: a name of `BACKBONES`; or a KerasHub backbone, a KerasCV backbone, or any `keras.Model` with
            four maps at strides 4, 8, 16 and 32 (`from_layers` makes one of `keras.applications`' models).
            A model is given RGB 0..255: put `with_normalization` around it where it wants something else.
        weights: None (random), "imagenet", or the path of a `.pth`, `.safetensors`, `.npz` or `.weights.h5`
            file; only with a name.
        input_channels: channels of the images. With other than three, the first convolution of pre-trained weights
            is widened: channel c gets the kernel of color c modulo 3 (red, green, blue, red, ...), times 3 / channels,
            so that the sum keeps its size; one channel gets the sum of the three. Mean and standard deviation of the
            normalization follow in the same way. (The rule of timm and segmentation_models.pytorch.)

    Returns:
        A model whose input is RGB 0..255, float32 (batch, height, width, 3), normalized inside, and whose
        output is a list of four maps at strides 4, 8, 16 and 32. A named backbone carries its name.

    Raises:
        ConnectionError: public weights could not be downloaded.
        ImportError: the package that carries the weights is not installed.
        ValueError: unknown name, weights that do not fit, or a model without these four maps.

    Example:
        >>> create_backbone("resnet50").name
        'resnet50'
    """
    if isinstance(backbone, keras.Model):
        if weights is not None:
            raise ValueError(
                f"Weights ({weights!r}) are loaded into named backbones only, and the backbone is a model. "
                "Load them into that model first, and pass no backbone weights."
            )
        model = adapt_backbone(backbone)
        if model.input_shape[-1] != input_channels:
            raise ValueError(
                f"The backbone {model.name!r} takes images of {model.input_shape[-1]} channels, and `input_channels` "
                f"is {input_channels}. Pass input_channels={model.input_shape[-1]}, or another backbone."
            )
        return model
    if backbone not in BACKBONES:
        nearest = difflib.get_close_matches(str(backbone), BACKBONES, n=3, cutoff=0.4) or list(BACKBONES)
        raise ValueError(
            f"There is no backbone {backbone!r}. The nearest names are: {', '.join(nearest)}. "
            "A keras.Model with four maps at strides 4, 8, 16 and 32 works as well."
        )
    model = BACKBONES[backbone].build(backbone, input_channels=input_channels)
    if weights is not None:
        load_weights(model, weights)
    return model


__all__ = [
    "BACKBONES",
    "ImageNormalization",
    "adapt_backbone",
    "build_resnet",
    "create_backbone",
    "from_layers",
    "load_weights",
    "with_normalization",
]
