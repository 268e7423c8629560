"""`keras-exfuse predict`."""

import functools
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_exfuse.cli import common, geotiff
from keras_exfuse.cli.masks import value_range as parsed_range
from keras_exfuse.cli.results import Polygons, Results, Uncertainty, all_files


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(help="Images, folders of images, or patterns in quotes.", show_default=False),
    ],
    model: common.ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for labels/ and overlays/.", show_default=False)
    ],
    overlay: Annotated[bool, typer.Option(help="Also write overlays with a legend.")] = True,
    polygons: Annotated[
        Polygons | None,
        typer.Option(
            help="Also write polygons, without the class called background: one polygons.json for all images, "
            "or polygons/*.geojson.",
            show_default=False,
        ),
    ] = None,
    areas: Annotated[
        Path | None,
        typer.Option(help="Also write a CSV table of each image's area by class.", show_default=False),
    ] = None,
    uncertainty: Annotated[
        Uncertainty | None,
        typer.Option(
            help="Also write a gray PNG of how unsure the model is of each pixel, white where it is most: by the "
            "entropy of the classes' probabilities, or the margin between the best two.",
            show_default=False,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="Names of the classes, with commas, a file with one on each line, or voc; those saved with the model "
            "by default, which for an exported one are in a file classes.txt beside it.",
            show_default=False,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="GeoTIFF: the bands that are the model's channels, counted from 1, for example 4,3,2; the first ones "
            "by default.",
            metavar="LIST",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Images of more than 8 bits: which values are black and white, for example 0,10000. By default the "
            "upper eight of the bits that an image uses count.",
            metavar="LOW,HIGH",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Segment only every N-th image, from number I (0 to N-1) on: the share of one job of an array.",
            metavar="I/N",
        ),
    ] = None,
    overwrite: common.OverwriteOption = False,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Segment images: a palette PNG of labels, and an overlay, for each.

    A GeoTIFF (extra geo) is read and written window by window, however large: labels/NAME.tif lies where it lies on the
    map, --polygons geojson has its coordinates, and --areas square metres.

    Unreadable files are passed over and listed at the end; the exit code is then 1.
    """
    from keras_exfuse.data.reading import file_problem

    found = find_images(paths)
    _check_names(found)
    found = found if shard is None else shard_of(found, shard)
    maps, others = geotiff.split(found, bands)
    geotiff.check_options(maps, bands, polygons == Polygons.coco, uncertainty is not None)
    limits = parsed_range(value_range)
    problems = {path: file_problem(path) for path in others}  # Before the model is loaded, which takes long.
    unreadable = [problem for problem in problems.values() if problem]
    images = [path for path in others if not problems[path]]
    if not images and not maps:
        report_unreadable(unreadable)
    files = all_files(images, output, overlay, polygons, areas, uncertainty, shard or "")
    for path in maps:
        files += geotiff.files_of(path, output, polygons is not None)
    common.check_nothing_there(files, overwrite)
    network, names = read_network(model, class_names)
    results = Results(output, names, overlay, polygons, areas, uncertainty, shard or "")
    predictor = common.predictor_of(network, scales, flip, window, return_uncertainty=uncertainty is not None)
    segment(images, predictor, results, unreadable, limits)
    if maps:
        # A window at a time: on a CPU as fast as four, in three quarters of the memory.
        on_map = common.predictor_of(network, scales, flip, window, value_range=limits, batch_size=1)
        geotiff.segment(
            maps, on_map, bands, output, names, polygons is not None, results.rows.extend, unreadable
        )
    results.finish()
    done = len(found) - len(unreadable)
    overlays = " and overlays" * (overlay and bool(images))
    written = f": {output}/labels{overlays}" if done else "."
    common.print_plain(f"{done} of {len(found)} images segmented{written}")
    report_unreadable(unreadable)


def read_network(path: Path, class_names: str | None) -> tuple[Any, tuple[str, ...]]:
    """What a user named as the model, and the names of its classes.

    Raises:
        ValueError: If it is no model, or has another number of classes than there are names.
    """
    from keras_exfuse.inference import ExportedModel
    from keras_exfuse.loading import load

    network = load(path)
    names = network.class_names if class_names is None else common.read_class_names(class_names)
    if isinstance(network, ExportedModel):
        return network, names or tuple(f"class {label}" for label in range(255))
    if len(names) != len(network.class_names):
        raise ValueError(
            f"--class-names: {len(names)} names for a model of {len(network.class_names)} classes."
        )
    return network, names


def segment(
    images: Sequence[Path],
    predictor: Any,
    results: Results,
    unreadable: list[str],
    limits: tuple[float, float] | None = None,
) -> None:
    """Read, segment and write: files are prefetched and written behind, each in a thread, while the model runs.

    Args:
        images: Files.
        predictor: From an image to its labels.
        results: What writes.
        unreadable: Gets a line for each file that could not be read.
        limits: Black and white in images of more than eight bits, as in `keras_exfuse.data.read_image`.
    """
    from keras_exfuse._threads import WriteBehind

    with common.progress_bar("segmenting", len(images)) as advance, WriteBehind() as queue:
        for path, image in read_images(images, unreadable, advance, limits):
            queue.call(results.add, path, image, predictor(image))


# === Images ===


def _check_names(images: list[Path]) -> None:
    taken: dict[str, Path] = {}
    for image in images:
        other = taken.setdefault(image.stem, image)
        if other != image:
            raise ValueError(
                f"{other} and {image} would both become {image.stem}.png. Segment them into different directories."
            )


def find_images(paths: list[str]) -> list[Path]:
    """The images that a user means.

    Args:
        paths: Files, folders (their images, not those of folders in them), or glob patterns.

    Returns:
        Files, each once, in the order given; those of folders and patterns sorted.

    Raises:
        ValueError: If something does not exist or holds no image.
    """
    from keras_exfuse.data.reading import images_in, other_files

    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            files = images_in(path)
            others = other_files(path)
            if others:
                common.console_error.print(f"{path}: {others}", markup=False)
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
            if not files:
                raise ValueError(f"There is no file, folder or match for {text!r}.")
        found.update(dict.fromkeys(files))
    return list(found)


def shard_of(images: list[Path], shard: str) -> list[Path]:
    """The share of one of several processes that have the same images.

    Args:
        images: All images.
        shard: "I/N": every N-th, from number I on.

    Raises:
        ValueError: If it is written in another way, or the share is empty.
    """
    index, slash, number = shard.partition("/")
    if not (slash and index.isdecimal() and number.isdecimal() and int(index) < int(number)):
        raise ValueError(f"--shard: expected I/N with I from 0 to N-1, such as 0/4, got {shard!r}.")
    share = images[int(index) :: int(number)]
    if not share:
        raise ValueError(
            f"--shard {shard}: there are only {len(images)} images, so that this share is empty."
        )
    return share


def read_images(
    images: Sequence[Path],
    unreadable: list[str],
    advance: Callable[[], None],
    limits: tuple[float, float] | None = None,
) -> Iterator[tuple[Path, np.ndarray]]:
    """Read images one after another, prefetched in a thread.

    Args:
        images: Files.
        unreadable: Gets a line for each file that could not be read; it is passed over.
        advance: Called after each file.
        limits: Black and white in images of more than eight bits, as in `keras_exfuse.data.read_image`.

    Yields:
        The file and its image, RGB (H, W, 3).
    """
    from keras_exfuse._threads import prefetch

    for path, image in prefetch(functools.partial(_read, limits=limits), images):
        if isinstance(image, str):
            unreadable.append(image)
        else:
            yield path, image
        advance()


def _read(path: Path, limits: tuple[float, float] | None) -> tuple[Path, np.ndarray | str]:
    """A file, and its image or what is wrong with it."""
    from keras_exfuse.data import read_image

    try:
        return path, read_image(path, limits)
    except (ValueError, OSError) as error:
        return path, str(error)


def report_unreadable(unreadable: list[str]) -> None:
    """List what could not be read, and end with the exit code 1 if there is any."""
    if not unreadable:
        return
    common.console_error.print(f"[bold red]{len(unreadable)} could not be read:[/]")
    for line in unreadable:
        common.console_error.print(f"  {line}", markup=False)
    raise typer.Exit(1)
