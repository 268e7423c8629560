"""Trained models by name: a directory each here, or anywhere on disk.

A preset holds `config.json` (the model's class and arguments, the names of its classes, the version that wrote it and
its measured score), `weights.npz` (its weights by path) and, if somebody wrote one, `README.md` (the model card).
"""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._files import read_arrays, read_json, replace_file
from keras_exfuse.presets.card import make_card

DIRECTORY = Path(__file__).parent
FILES = CONFIG, WEIGHTS, CARD = "config.json", "weights.npz", "README.md"
DTYPES = ("float32", "float16")
# What `config.json` has to hold.
_KINDS: dict[str, Any] = {"class": str, "config": dict, "version": str, "class_names": (list, type(None))}


def preset_names() -> dict[str, str]:
    """Name of each preset in the package, and the first line of its model card."""
    cards = sorted(DIRECTORY.glob(f"*/{CARD}"))
    return {card.parent.name: card.read_text().splitlines()[0].lstrip("# ") for card in cards}


def is_preset(path: Path) -> bool:
    """Whether a directory is a preset's."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def save_preset(
    model: keras.Model,
    directory: str | os.PathLike[str],
    class_names: Any = None,
    dtype: str = "float32",
    score: dict[str, Any] | None = None,
) -> Path:
    """Write a model as a preset; see `ExFuse.save_to_preset`.

    Args:
        model: The model.
        directory: Where to.
        class_names: A name for each class; those of `model.class_names` by default, if it has any.
        dtype: `"float32"` or `"float16"`.
        score: What was measured and on which data, as `keras_exfuse.presets.card` has it.

    Returns:
        The directory.

    Raises:
        ValueError: If the directory holds something else, or an argument does not fit.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {DTYPES}. Received: dtype={dtype!r}")
    classes = model.output_shape[-1]
    if class_names is None:
        class_names = getattr(model, "class_names", None)
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"`class_names` must be {classes} names, one for each class of the model. Received "
            f"{len(class_names)}: {list(class_names)}"
        )
    weights: dict[str, Any] = {weight.path: _as_dtype(weight, dtype) for weight in model.weights}
    if len(weights) != len(model.weights):
        raise ValueError(
            "Two weights of the model have the same path, so they cannot be told apart. Save it as .keras."
        )
    # A preset is weights: in which precision, and whether frozen, is up to whoever loads it.
    config = {**model.get_config(), "backbone_weights": None, "dtype": None, "frozen": []}
    name = keras.saving.get_registered_name(type(model))
    description = {**make_card(class_names, score), "class": name, "config": config}

    def write(temporary: Path) -> None:
        temporary.mkdir()
        (temporary / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
        np.savez_compressed(temporary / WEIGHTS, **weights)
        card = Path(directory) / CARD
        if card.exists():  # A model card is written by hand: saving again must not lose it.
            (temporary / CARD).write_bytes(card.read_bytes())

    path = Path(directory)
    _check_replaceable(path)
    return replace_file(path, write)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a file, or a directory with anything in it that is no part of a preset."""
    others = [path.name] if path.is_file() else []
    if path.is_dir():
        others = sorted({file.name for file in path.iterdir()} - set(FILES))
    if others:
        raise ValueError(
            f"{path} is there and is not a preset, or not only: it holds {', '.join(others[:3])}. Choose another name; "
            "nothing was written."
        )


def _as_dtype(weight: Any, dtype: str) -> np.ndarray:
    values = np.asarray(keras.ops.convert_to_numpy(weight))
    if values.size and np.abs(values).max() > np.finfo(dtype).max:
        raise ValueError(
            f"The weight {weight.path} holds {np.abs(values).max():.3g}, too large for {dtype}. Use float32."
        )
    return values.astype(dtype)


def read_description(preset: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """The directory of a preset, named or a path, and what its `config.json` says.

    Raises:
        ValueError: If there is none (the text lists the names), or the file is another one.
    """
    named = DIRECTORY / str(preset)
    directory = named if is_preset(named) else Path(preset)
    if not is_preset(directory):
        raise ValueError(
            f"There is no preset {os.fspath(preset)!r}: expected one of {list(preset_names())}, or a directory "
            "that `save_to_preset` wrote."
        )
    description = read_json(directory / CONFIG)
    wrong = [name for name, kind in _KINDS.items() if not isinstance(description.get(name), kind)]
    if wrong:
        raise ValueError(
            f"{directory / CONFIG} is not that of a preset, or is damaged: expected {', '.join(_KINDS)}, as "
            f"`save_to_preset` writes them; {', '.join(wrong)} is missing or of another type."
        )
    return directory, description


def load_preset(model_class: Any, preset: str | os.PathLike[str]) -> Any:
    """Build and fill a preset's model; see `ExFuse.from_preset`.

    Args:
        model_class: The class that was asked for; the preset's is it or a subclass of it.
        preset: A name or a directory.

    Raises:
        ValueError: If there is no such preset, it is damaged, of another class, or its weights do not fit.
    """
    directory, description = read_description(preset)
    wanted, model_class = model_class, keras.saving.get_registered_object(description["class"])
    if model_class is None or not issubclass(model_class, wanted):
        raise ValueError(
            f"The preset {os.fspath(preset)} is a {description['class']}, and {wanted.__name__}.from_preset was "
            "called. Call from_preset of its own class, and import the module that defines it first."
        )
    try:
        model = model_class.from_config(dict(description["config"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{directory / CONFIG} does not describe a {description['class']}: {type(error).__name__}: {error}"
        ) from error
    _fill(model, directory / WEIGHTS, description["version"])
    if description["class_names"]:
        model.class_names = tuple(description["class_names"])
    return model


def _fill(model: keras.Model, file: Path, version: str) -> None:
    stored = read_arrays(file)
    wanted = {weight.path: tuple(weight.shape) for weight in model.weights}
    found = {path: values.shape for path, values in stored.items()}
    if wanted != found:
        differing = sorted(set(wanted.items()) ^ set(found.items()))
        raise ValueError(
            f"The weights in {file} are not those of the model in config.json: {len(differing)} differ, the first "
            f"are {differing[:3]}. Version {version} of keras_exfuse wrote it: the preset is damaged, or this version "
            "builds the model in another way."
        )
    for weight in model.weights:
        weight.assign(stored[weight.path].astype("float32"))
