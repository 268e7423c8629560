"""Backbones: models from an image to four feature maps at strides 4, 8, 16 and 32."""

import difflib
from pathlib import Path

import keras

from keras_exfuse.backbones.adapters import adapt_backbone, from_layers, with_normalization
from keras_exfuse.backbones.normalization import ImageNormalization
from keras_exfuse.backbones.resnet import build_resnet
from keras_exfuse.backbones.table import BACKBONES
from keras_exfuse.backbones.weights import load_weights


def create_backbone(backbone: str | keras.Model, weights: str | Path | None = None) -> keras.Model:
    """Make a backbone from its name, or from a model.

    Args:
        backbone: a name of `BACKBONES`; or a KerasHub backbone, a KerasCV backbone, or any `keras.Model` with
            four maps at strides 4, 8, 16 and 32 (`from_layers` makes one of `keras.applications`' models).
            A model is given RGB 0..255: put `with_normalization` around it where it wants something else.
        weights: None (random), "imagenet", or the path of a `.pth`, `.safetensors`, `.npz` or `.weights.h5`
            file; only with a name.

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
        return adapt_backbone(backbone)
    if backbone not in BACKBONES:
        nearest = difflib.get_close_matches(str(backbone), BACKBONES, n=3, cutoff=0.4) or list(BACKBONES)
        raise ValueError(
            f"There is no backbone {backbone!r}. The nearest names are: {', '.join(nearest)}. "
            "A keras.Model with four maps at strides 4, 8, 16 and 32 works as well."
        )
    model = BACKBONES[backbone].build(backbone)
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
