"""What the commands share: where to print, reading a model, the names of its classes."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

# Lines are not broken: paths and commands in them are meant to be copied.
console = Console(highlight=False, soft_wrap=True)
console_error = Console(stderr=True, highlight=False, soft_wrap=True)

ModelOption = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        help="A saved model (.keras), the folder of a training run, or a preset by name or folder.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
ScalesOption = Annotated[
    str,
    typer.Option(help="Average over the image at these scales, for example 0.75,1,1.25.", metavar="LIST"),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
WindowOption = Annotated[
    int | None, typer.Option(help="Side of the windows in which large images are taken, in pixels.", min=32)
]


def print_plain(line: str) -> None:
    """A line as it is: brackets in it are no markup."""
    console.print(line, markup=False)


def print_error(error: Exception) -> None:
    """One line, or the few that the error has, without a traceback."""
    from keras_exfuse.data import data_error_message

    text = data_error_message(error) or str(error) or type(error).__name__
    console_error.print(f"[bold red]Error:[/] {escape(text)}")


def load_model(path: Path) -> Any:
    """Read a model that a user named.

    Args:
        path: A `.keras` file, a folder with `model.keras` in it, or a preset.

    Returns:
        The model.

    Raises:
        ValueError: If there is none, or it is not a segmentation model; the text says what was expected.
    """
    import keras

    if _is_preset(path):
        from keras_exfuse import ExFuse

        return ExFuse.from_preset(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.exists():
        unfinished = (
            " The run there has not finished: repeat its command." if (path / "run.json").exists() else ""
        )
        from keras_exfuse.presets import preset_names

        raise ValueError(
            f"There is no model at {file}.{unfinished} Presets that come with the package: "
            f"{', '.join(preset_names())}."
        )
    if file.suffix != ".keras":
        raise ValueError(
            f"{file} is not a saved model: expected a file that ends in .keras, as `train` and `model.save` write it. "
            "A file of weights alone does not say which model they belong to; an exported one is for `predict` only."
        )
    try:
        model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # Keras raises whatever its reader stumbles over.
        raise ValueError(f"{file} cannot be read as a Keras model: {error}") from error
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            f"{file} is no segmentation model: its output has shape {shape}, expected (B, H, W, classes)."
        )
    return model


def predictor_of(network: Any, scales: str, flip: bool, window: int | None) -> Any:
    """What segments images as the options say: by the fused model, if the model is one that can be fused."""
    from keras_exfuse.inference import ExportedModel, Predictor, fuse_for_inference
    from keras_exfuse.inference.fusing import is_graph

    factors = numbers(scales, "--scales")
    if not isinstance(network, ExportedModel) and is_graph(network):
        network = fuse_for_inference(network)
    return Predictor(network, scales=factors, flip=flip, window=window)


def _is_preset(path: Path) -> bool:
    from keras_exfuse.presets import CONFIG, WEIGHTS, preset_names

    if path.exists():
        return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
    return str(path) in preset_names()


def model_class_names(path: Path, num_classes: int) -> tuple[str, ...]:
    """Names for a model's classes: from its preset or run, else VOC's if there are 21, else "class N"."""
    from keras_exfuse.data import VOC_CLASSES
    from keras_exfuse.presets import read_description

    folder = path if path.is_dir() else path.parent
    names: tuple[str, ...] = ()
    if _is_preset(path):
        names = tuple(read_description(path)[1]["class_names"] or ())
    elif (folder / "run.json").is_file():
        names = tuple(json.loads((folder / "run.json").read_text()).get("recipe", {}).get("class_names", ()))
    if len(names) != num_classes:
        names = VOC_CLASSES if num_classes == len(VOC_CLASSES) else ()
    return names or tuple(f"class {label}" for label in range(num_classes))


def names_of_exported(given: str | None, file: Path) -> tuple[str, ...]:
    """Names for the classes of an exported model, which knows neither them nor their number."""
    names = read_class_names(given, file.parent)
    return names or tuple(f"class {label}" for label in range(255))


def read_class_names(given: str | None, data: Path) -> tuple[str, ...]:
    """Class names from a file with one on each line, a list with commas, or `classes.txt` beside the data."""
    if given is None:
        file = data / "classes.txt"
        return _lines(file) if file.is_file() else ()
    if Path(given).is_file():
        return _lines(Path(given))
    if "," not in given:
        raise ValueError(f"--class-names: {given!r} is neither a file nor a list of names with commas.")
    return tuple(name.strip() for name in given.split(","))


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())


def numbers(text: str, option: str, kind: type = float) -> tuple[Any, ...]:
    """A list with commas, as numbers.

    Raises:
        ValueError: If it is none; the text names the option.
    """
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between them, got {text!r}.") from None
