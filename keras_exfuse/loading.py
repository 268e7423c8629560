"""All that a name or a path can mean as a model: the same in Python, for `--model` and for `init_from`."""

import difflib
import os
from pathlib import Path
from typing import Any

from keras_exfuse._files import read_json
from keras_exfuse.inference.exported import ExportedModel, is_exported
from keras_exfuse.presets import is_preset, preset_names
from keras_exfuse.presets.card import load_keras_file, read_card

# Files of a run's directory.
RUN, MODEL, BEST = "run.json", "model.keras", "best.keras"


def load(model: str | os.PathLike[str]) -> Any:
    """Load a trained model: what the option `--model` of the commands takes.

    The directory of a run means one model, everywhere: `best.keras`, which had the highest mean IoU in validation,
    if the run validated; else `model.keras`, the model after the last step.

    Args:
        model: The name of a preset, or the path of a preset's directory, of the directory of a finished run, of a
            `.keras` file, or of what `keras_exfuse.export` wrote.

    Returns:
        A Keras model from images to logits, not compiled; or an `ExportedModel`. Either has `class_names`, a tuple of
        strings: those saved with the model, else "class 0", "class 1" and so on. An exported model that brings no
        names, and so does not tell how many classes it has, has an empty tuple.

    Raises:
        ValueError: If there is no such model, it cannot be read, or it is not a segmentation model.
        ImportError: If the runtime of an exported model is not installed; the text names the extra.

    Example:
    >>> import keras_exfuse
    >>> model = keras_exfuse.load("exfuse_efficientnet_lite0.voc2012_animals")
    >>> model.class_names[8]
    'cat'
    """
    if is_exported(model):
        return ExportedModel(model)
    network = read_network(model)
    shape = getattr(network, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            f"{os.fspath(model)} is no segmentation model: its output has shape {shape}, expected (B, H, W, classes)."
        )
    names = getattr(network, "class_names", ()) or tuple(f"class {label}" for label in range(shape[-1]))
    if len(names) != shape[-1]:
        raise ValueError(
            f"{os.fspath(model)} is damaged: it has {shape[-1]} classes and names for {len(names)}: {names}."
        )
    network.class_names = names
    return network


def read_network(model: str | os.PathLike[str]) -> Any:
    """Read a Keras model as `load` does, whatever its outputs: a classifier, too.

    Args:
        model: As in `load`, but no exported model.

    Returns:
        The model, with `class_names` if it was saved with them.

    Raises:
        ValueError: If there is no such model, or it cannot be read.
    """
    text, path = os.fspath(model), Path(model)
    if text in preset_names() or is_preset(path):
        from keras_exfuse.models import ExFuse

        return ExFuse.from_preset(text)
    if is_exported(path):
        raise ValueError(f"{text} is an exported model: it gives labels only. Name the Keras model instead.")
    file = run_model(path) if (path / RUN).is_file() else path
    if not file.is_file():
        near = difflib.get_close_matches(text, preset_names(), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no model at {text}. Expected a .keras file, the directory of a finished run or of a preset, an "
            f"exported model, or one of the presets {', '.join(preset_names())}.{hint}"
        )
    if file.suffix != ".keras":
        raise ValueError(
            f"{file} is not a saved model: expected a file that ends in .keras, as `train` and `model.save` write it. "
            "A file of weights alone does not say which model they belong to."
        )
    network = load_keras_file(file)
    names = read_card(file).get("class_names")
    if names:
        network.class_names = tuple(names)
    return network


def run_model(directory: Path) -> Path:
    """The file of the one model that the directory of a run means.

    Args:
        directory: It holds a `run.json`, in which a finished run wrote down which file that is.

    Returns:
        The path of its `best.keras` if the run validated, else of its `model.keras`.

    Raises:
        ValueError: If the run has not finished, or the file is not there any more.
    """
    name = read_json(directory / RUN).get("model")
    if name is None or not (directory / MODEL).is_file():
        raise ValueError(
            f"The run in {directory} has not finished. Repeat its command, or name the file to be taken, such as "
            f"{directory / BEST}."
        )
    if not (directory / name).is_file():
        raise ValueError(
            f"{directory / name}, the model of the run in {directory}, is missing. Put it back, or name another file, "
            f"such as {directory / MODEL}."
        )
    return directory / name
