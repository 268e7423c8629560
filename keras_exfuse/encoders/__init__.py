"""Encoders: models from a picture to four feature maps at strides 4, 8, 16 and 32."""

import difflib
from pathlib import Path

import keras

from keras_exfuse.encoders.adapters import adapt_encoder, from_layers, with_normalization
from keras_exfuse.encoders.normalization import ImageNormalization
from keras_exfuse.encoders.resnet import build_resnet
from keras_exfuse.encoders.table import ENCODERS
from keras_exfuse.encoders.weights import load_weights


def create_encoder(backbone: str | keras.Model, weights: str | Path | None = None) -> keras.Model:
    """Make an encoder from its name, or from a model.

    Args:
        backbone: a name of `ENCODERS`; or a KerasHub backbone, a KerasCV backbone, or any `keras.Model` with
            four maps at strides 4, 8, 16 and 32 (`from_layers` makes one of `keras.applications`' models).
            A model is given RGB 0..255: put `with_normalization` around it where it wants something else.
        weights: None (random), "imagenet", or the path of a `.pth`, `.safetensors`, `.npz` or `.weights.h5`
            file; only with a name.

    Returns:
        A model whose input is RGB 0..255, float32 (batch, height, width, 3), normalised inside, and whose
        output is a list of four maps at strides 4, 8, 16 and 32. A named encoder carries its name.

    Raises:
        ConnectionError: public weights could not be downloaded.
        ImportError: the package that carries the weights is not installed.
        ValueError: unknown name, weights that do not fit, or a model without these four maps.

    Example:
        >>> create_encoder("resnet50").name
        'resnet50'
    """
    if isinstance(backbone, keras.Model):
        if weights is not None:
            raise ValueError(
                f"Weights ({weights!r}) are loaded into named encoders only, and the backbone is a model. "
                "Load them into that model first, and pass no backbone weights."
            )
        return adapt_encoder(backbone)
    if backbone not in ENCODERS:
        nearest = difflib.get_close_matches(str(backbone), ENCODERS, n=3, cutoff=0.4) or list(ENCODERS)
        raise ValueError(
            f"There is no backbone {backbone!r}. The nearest names are: {', '.join(nearest)}. "
            "A keras.Model with four maps at strides 4, 8, 16 and 32 works as well."
        )
    encoder = ENCODERS[backbone].build(backbone)
    if weights is not None:
        load_weights(encoder, weights)
    return encoder


__all__ = [
    "ENCODERS",
    "ImageNormalization",
    "adapt_encoder",
    "build_resnet",
    "create_encoder",
    "from_layers",
    "load_weights",
    "with_normalization",
]
