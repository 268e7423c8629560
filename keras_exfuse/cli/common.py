"""What the commands share: where to print, options, the names of classes."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
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
        help="A preset by name or directory, the directory of a finished run (its best model in validation, else its "
        "last), a .keras file, or what `export` wrote.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
ScalesOption = Annotated[
    str,
    typer.Option(
        help="Average over the image at these scales (multi-scale), for example 0.75,1,1.25.", metavar="LIST"
    ),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Average with the flipped image.")]
WindowOption = Annotated[
    int | None, typer.Option(help="Side of the windows in which large images are taken, in pixels.", min=32)
]


def print_plain(line: str) -> None:
    """A line as it is: brackets in it are no markup."""
    console.print(line, markup=False)


def print_error(error: Exception) -> None:
    """One line, or the few that the error has, without a traceback."""
    from keras_exfuse.data import data_error_message

    print_error_text(data_error_message(error) or str(error) or type(error).__name__)


def print_error_text(text: str) -> None:
    """One line, or a few, that say what went wrong."""
    console_error.print(f"[bold red]Error:[/] {escape(text)}")


@contextlib.contextmanager
def printed_notices() -> Iterator[None]:
    """Inside, what the package notices about the data is printed as a line, and not as Python's warnings are."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_notice(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            from keras_exfuse.data import DataNotice

            if issubclass(category, DataNotice):
                console_error.print(f"[bold yellow]Notice:[/] {escape(str(message))}")
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_notice
        yield


@contextlib.contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, nothing in a file; however the block ends, the terminal is as it was.

    Args:
        description: What goes on.
        total: Number of steps, if it is known.

    Yields:
        Called after each step, or as `advance(done, total)`.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console_error, disable=not console_error.is_terminal) as bar:
        task = bar.add_task(description, total=total)

        def advance(done: int | None = None, total: int | None = None) -> None:
            bar.update(task, advance=1 if done is None else None, completed=done, total=total)

        yield advance


def predictor_of(
    network: Any,
    scales: str,
    flip: bool,
    window: int | None,
    return_uncertainty: bool = False,
    value_range: Any = None,
    batch_size: int = 4,
) -> Any:
    """What segments images as the options say: by the fused model, if the model is one that can be fused."""
    from keras_exfuse.inference import ExportedModel, Predictor, fuse_for_inference
    from keras_exfuse.inference.fusion.fusing import is_graph

    factors = numbers(scales, "--scales")
    if not isinstance(network, ExportedModel) and is_graph(network):
        network = fuse_for_inference(network)
    return Predictor(
        network,
        scales=factors,
        flip=flip,
        window=window,
        return_uncertainty=return_uncertainty,
        value_range=value_range,
        batch_size=batch_size,
    )


def network_of_classes(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a user named as the model, and the names of its classes.

    Raises:
        ValueError: If it is no model, or one that does not tell its classes.
    """
    from keras_exfuse.loading import load

    network = load(path)
    if not network.class_names:
        raise ValueError(
            f"How many classes has {path}? Put their names into classes.txt beside it, one on each line."
        )
    return network, network.class_names


def check_nothing_there(files: list[Path], overwrite: bool) -> None:
    """Raise a `ValueError` if a file would be written over and may not be."""
    old = [file for file in files if file.exists()]
    if old and not overwrite:
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        raise ValueError(
            f"{old[0]}{more} would be written over. Pass --overwrite, or choose another --output."
        )


def read_class_names(given: str) -> tuple[str, ...]:
    """Class names as an option has them.

    Args:
        given: `voc` for those of PASCAL VOC, the path of a file with one on each line, or names with commas.

    Raises:
        ValueError: If it is none of the three.
    """
    from keras_exfuse.data import VOC_CLASSES

    if given == "voc":
        return VOC_CLASSES
    if Path(given).is_file():
        return _lines(Path(given))
    if "," not in given:
        raise ValueError(
            f"--class-names: {given!r} is neither a file, nor a list of names with commas, nor voc."
        )
    return tuple(name.strip() for name in given.split(","))


def class_names_in(data: Path) -> tuple[str, ...]:
    """The names in the `classes.txt` of a data set; none without that file."""
    file = data / "classes.txt"
    return _lines(file) if file.is_file() else ()


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def numbers(text: str, option: str, kind: type = float) -> tuple[Any, ...]:
    """A list with commas, as numbers.

    Raises:
        ValueError: If it is none; the text names the option.
    """
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between them, got {text!r}.") from None
