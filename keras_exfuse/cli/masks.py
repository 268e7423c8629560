"""Options that say how masks are read."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_exfuse.cli import common

ColorsOption = Annotated[
    Path | None,
    typer.Option("--colors", help="For RGB masks: a JSON file [[r, g, b], ...], one color a class."),
]
NearestOption = Annotated[
    bool,
    typer.Option("--nearest-color", help="A color that is not in the table means the nearest one in it."),
]
RemapOption = Annotated[
    str | None,
    typer.Option(help="New labels of stored ones, for example 11:255,12:0.", metavar="OLD:NEW,..."),
]
MasksOption = Annotated[
    str | None, typer.Option(help="Folder of the masks, if the data are the folder of the images.")
]
ImageSuffixOption = Annotated[
    str,
    typer.Option(help="What names of images end with, and those of masks do not.", metavar="_TEXT"),
]
MaskSuffixOption = Annotated[
    str,
    typer.Option(
        help="What names of masks end with, such as _mask, and those of images do not.", metavar="_TEXT"
    ),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        help="Images of more than 8 bits: which values are black and white, for example 0,4095. By default the upper "
        "eight of the bits that an image uses count.",
        metavar="LOW,HIGH",
        show_default=False,
    ),
]
BinaryOption = Annotated[
    bool, typer.Option("--binary", help="Masks are black and white: 255 (or 1) is class 1 and not ignored.")
]
ZeroOption = Annotated[
    bool,
    typer.Option(
        "--reduce-zero-label", help="0 means no class, and classes are counted from 1, as in ADE20K."
    ),
]


def mask_options(
    colors: Path | None,
    remap: str | None,
    binary: bool | None,
    nearest_color: bool | None,
    reduce_zero_label: bool | None,
) -> dict[str, Any]:
    """What the options say, for `Examples.with_masks`; `None` for what they do not say.

    Raises:
        ValueError: If a file or a text is not as expected; the text names the option.
    """
    options: dict[str, Any] = {
        "binary": binary or None,
        "nearest_color": nearest_color or None,
        "reduce_zero_label": reduce_zero_label or None,
    }
    if colors is not None:
        try:
            options["color_table"] = [[int(value) for value in row] for row in json.loads(colors.read_text())]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"--colors: {colors} is no JSON file [[r, g, b], ...] ({error}).") from error
    if remap:
        try:
            options["remap"] = tuple(
                (int(old), int(new)) for old, new in (each.split(":") for each in remap.split(","))
            )
        except ValueError:
            raise ValueError(f"--remap: expected OLD:NEW with commas between, got {remap!r}.") from None
    return options


def value_range(text: str | None) -> tuple[float, float] | None:
    """What `--range` says.

    Raises:
        ValueError: If it is not two numbers, the lower one first.
    """
    if text is None:
        return None
    limits = common.numbers(text, "--range")
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise ValueError(f"--range: expected two numbers LOW,HIGH, the lower one first, got {text!r}.")
    return limits[0], limits[1]


def examples_of(
    source: Path,
    split: str | None,
    masks: str | None,
    image_suffix: str,
    mask_suffix: str,
    options: dict[str, Any],
    limits: tuple[float, float] | None,
) -> Any:
    """The examples of one split, or prepared records, as the options say.

    Args:
        source: What the user names as the data.
        split: Name of a list, if there are several.
        masks: What `--masks` says.
        image_suffix: What `--image-suffix` says.
        mask_suffix: What `--mask-suffix` says.
        options: What `mask_options` gave.
        limits: What `value_range` gave.

    Raises:
        ValueError: If there is nothing of the kind, or records are to be read in another way.
    """
    from keras_exfuse.data import Examples
    from keras_exfuse.data.sources import one_source

    found = one_source(source, split, masks=masks, image_suffix=image_suffix, mask_suffix=mask_suffix)
    if isinstance(found, Examples):
        return found.with_masks(**options).with_range(limits)
    given = [name for name, value in {**options, "range": limits}.items() if value is not None]
    if given:
        raise ValueError(
            f"{source}: prepared records hold labels, not masks: leave out {', '.join(given)}, or give it to "
            "`keras-exfuse data prepare`."
        )
    return found


def repeated_options(recipe: dict[str, Any]) -> str:
    """The options by which `evaluate` reads the validation data as the run did, each with a space before it.

    Args:
        recipe: Settings of the run; colors are left out, which are a file on the command line.
    """
    masks = recipe["masks"] if recipe["val_data"] is None else recipe["val_masks"]
    values = {
        "masks": masks,
        "image-suffix": recipe["image_suffix"],
        "mask-suffix": recipe["mask_suffix"],
        "range": ",".join(f"{limit:g}" for limit in recipe["value_range"] or ()),
        "remap": ",".join(f"{old}:{new}" for old, new in recipe["remap"]),
        "val-fraction": recipe["val_fraction"],
        "seed": recipe["seed"] if recipe["val_fraction"] else None,
    }
    flags = [name for name in ("binary", "nearest_color", "reduce_zero_label") if recipe[name]]
    given = [f" --{name} {value}" for name, value in values.items() if value not in (None, "")]
    colors = " --colors FILE" if recipe["color_table"] else ""
    return "".join([*given, *(f" --{name.replace('_', '-')}" for name in flags), colors])
