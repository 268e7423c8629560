"""`keras-exfuse predict`."""

import glob
from pathlib import Path
from typing import Annotated

import typer

from keras_exfuse.cli import common

PICTURES = (".jpg", ".jpeg", ".png")


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of pictures, or patterns in quotes.", show_default=False),
    ],
    model: common.ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for labels/ and overlays/.", show_default=False)
    ],
    overlay: Annotated[bool, typer.Option(help="Also write overlays with a legend.")] = True,
    overwrite: common.OverwriteOption = False,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Segment pictures: a palette PNG of labels, and an overlay, for each.

    Unreadable files are passed over and listed at the end; the exit code is then 1.
    """
    from rich.progress import track

    from keras_exfuse import visualize
    from keras_exfuse._files import replace_file
    from keras_exfuse.data import read_image
    from keras_exfuse.inference import Predictor

    targets = _targets(find_pictures(paths), output, overlay, overwrite)
    network = common.load_model(model)
    names = common.model_class_names(model, network.output_shape[-1])
    predictor = Predictor(network, scales=common.numbers(scales, "--scales"), flip=flip, window=window)
    unreadable: list[str] = []
    for picture, (labels_file, overlay_file) in track(
        list(targets.items()),
        description="segmenting",
        console=common.console_error,
        disable=not common.console_error.is_terminal,
    ):
        try:
            image = read_image(picture)
        except ValueError as error:
            unreadable.append(str(error))
            continue
        labels = predictor(image)
        replace_file(labels_file, visualize.palette_image(labels).save)
        if overlay:
            replace_file(overlay_file, visualize.overlay(image, labels, names).save)
    done = len(targets) - len(unreadable)
    common.console.print(
        f"{done} of {len(targets)} pictures segmented: {output}/labels" + (" and overlays" * overlay),
        markup=False,
    )
    if unreadable:
        common.console_error.print(f"[bold red]{len(unreadable)} could not be read:[/]")
        for line in unreadable:
            common.console_error.print(f"  {line}", markup=False)
        raise typer.Exit(1)


def find_pictures(paths: list[str]) -> list[Path]:
    """The pictures that a user means.

    Args:
        paths: Files, folders (their JPEG and PNG files, not those of folders in them), or glob patterns.

    Returns:
        Files, each once, in the order given; those of folders and patterns sorted.

    Raises:
        ValueError: If something does not exist or holds no picture.
    """
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            files = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
            if not files:
                raise ValueError(f"There is no picture ({', '.join(PICTURES)}) in the folder {path}.")
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
            if not files:
                raise ValueError(f"There is no file, folder or match for {text!r}.")
        found.update(dict.fromkeys(files))
    return list(found)


def _targets(
    pictures: list[Path], output: Path, overlay: bool, overwrite: bool
) -> dict[Path, tuple[Path, Path]]:
    """Where each picture's files go; nothing is written over, neither old files nor each other's."""
    targets: dict[Path, tuple[Path, Path]] = {}
    taken: dict[str, Path] = {}
    for picture in pictures:
        other = taken.setdefault(picture.stem, picture)
        if other != picture:
            raise ValueError(
                f"{other} and {picture} would both become {picture.stem}.png. Segment them into different folders."
            )
        name = f"{picture.stem}.png"
        targets[picture] = output / "labels" / name, output / "overlays" / name
    if not overwrite:
        old = [file for files in targets.values() for file in files[: 1 + overlay] if file.exists()]
        if old:
            more = f" and {len(old) - 1} more" if len(old) > 1 else ""
            raise ValueError(
                f"{old[0]}{more} would be written over. Pass --overwrite, or choose another --output."
            )
    return targets
