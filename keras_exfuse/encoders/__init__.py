"""Encoders: models from a picture to four feature maps at strides 4, 8, 16 and 32."""

import difflib
from collections.abc import Callable
from functools import partial

import keras

from keras_exfuse.encoders.efficientnet_lite import build_efficientnet_lite
from keras_exfuse.encoders.normalization import ImageNormalization
from keras_exfuse.encoders.resnet import build_resnet
from keras_exfuse.encoders.weights import load_weights

# The one table of names.
ENCODERS: dict[str, Callable[[str], keras.Model]] = {
    "resnet50": partial(build_resnet, depths=(3, 4, 6, 3)),
    "resnet101": partial(build_resnet, depths=(3, 4, 23, 3)),
    "efficientnet_lite0": partial(build_efficientnet_lite, width=1.0, depth=1.0),
}


def create_encoder(backbone: str | keras.Model, weights: str | None = None) -> keras.Model:
    """Make an encoder from its name.

    Args:
        backbone: a name of `ENCODERS`, or a `keras.Model` that maps RGB 0..255 to four maps.
        weights: None (random), "imagenet", or the path of a weights file; only with a name.

    Returns:
        A model whose input is RGB 0..255, float32 (batch, height, width, 3), normalised inside, and whose
        output is a list of four maps at strides 4, 8, 16 and 32. A named encoder carries its name.

    Raises:
        ImportError: the package that carries the weights is not installed.
        ValueError: unknown name, or weights that do not fit.

    Example:
        >>> create_encoder("resnet50").name
        'resnet50'
    """
    if isinstance(backbone, keras.Model):
        return backbone
    if backbone not in ENCODERS:
        nearest = difflib.get_close_matches(str(backbone), ENCODERS, n=3, cutoff=0.4) or list(ENCODERS)
        raise ValueError(f"There is no backbone {backbone!r}. The nearest names are: {', '.join(nearest)}.")
    encoder = ENCODERS[backbone](backbone)
    if weights is not None:
        load_weights(encoder, weights)
    return encoder


__all__ = ["ENCODERS", "ImageNormalization", "create_encoder", "load_weights"]
