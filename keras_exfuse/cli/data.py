"""`keras-exfuse data`: look at a data set, check it, and write it as records."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from keras_exfuse._files import replace_file
from keras_exfuse.cli.common import class_names_in, console, console_error, progress_bar, read_class_names
from keras_exfuse.cli.masks import (
    BinaryOption,
    ColorsOption,
    ImageSuffixOption,
    MasksOption,
    MaskSuffixOption,
    NearestOption,
    RangeOption,
    RemapOption,
    ZeroOption,
    mask_options,
    value_range,
)

if TYPE_CHECKING:
    from keras_exfuse.data import CheckReport, Examples

_ERRORS_SHOWN = 20
_NUM_CLASSES = 21  # Where nothing tells how many: VOC's.

app = typer.Typer(
    name="data",
    help="Look at data sets, check them, and write them as records.",
    no_args_is_help=True,
)

SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="A folder in VOC layout (or VOCdevkit, or an official tar), a list (.csv, .json), a folder with images/ "
        "and masks/, or of images (with --masks or --mask-suffix).",
        show_default=False,
    ),
]
SplitOption = Annotated[str | None, typer.Option(help="One list of ImageSets/Segmentation; all by default.")]
ClassesOption = Annotated[
    int | None,
    typer.Option(
        "--num-classes", "-n", help="Number of classes; that of the names, or 21, by default.", min=2
    ),
]
NamesOption = Annotated[
    str | None,
    typer.Option(
        help="Class names with commas, a file with one on each line, or voc; classes.txt by default."
    ),
]


@app.command()
def check(
    source: SourceArgument,
    split: SplitOption = None,
    masks: MasksOption = None,
    image_suffix: ImageSuffixOption = "",
    mask_suffix: MaskSuffixOption = "",
    num_classes: ClassesOption = None,
    class_names: NamesOption = None,
    colors: ColorsOption = None,
    remap: RemapOption = None,
    binary: BinaryOption = False,
    nearest_color: NearestOption = False,
    reduce_zero_label: ZeroOption = False,
    image_range: RangeOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here.")] = None,
) -> None:
    """Read a whole data set; report counts, sizes, shares of the classes, and what is wrong or suspicious.

    Goes on to the end whatever it finds, and exits with 1 if an example or a list is bad.
    """
    from keras_exfuse.data import CheckReport, check_examples, open_source

    unreadable: dict[str, str] = {}
    parts = open_source(
        source,
        split=split,
        masks=masks,
        image_suffix=image_suffix,
        mask_suffix=mask_suffix,
        check_files=False,
        on_problem=unreadable.__setitem__,
    )
    names, classes = _classes(source, parts, class_names, num_classes, binary)
    options = mask_options(colors, remap, binary, nearest_color, reduce_zero_label)
    reports = {}
    for name, reason in unreadable.items():
        reports[name] = CheckReport(f"{source}: {name}", 0, classes, names, errors={name: reason})
        _print_report(name, reports[name])
    for name, examples in parts.items():
        with progress_bar(f"checking {name}") as progress:
            reports[name] = check_examples(
                examples.with_masks(**options).with_range(value_range(image_range)),
                classes,
                class_names=names,
                progress=progress,
            )
        _print_report(name, reports[name])
    if json_file:
        text = json.dumps({n: _as_json(r) for n, r in reports.items()}, indent=1)
        replace_file(json_file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        console.print(f"The report is in {escape(str(json_file))}.")
    if any(report.errors for report in reports.values()):
        raise typer.Exit(1)


@app.command()
def show(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path(
        "contact_sheet.png"
    ),
    split: SplitOption = None,
    masks: MasksOption = None,
    image_suffix: ImageSuffixOption = "",
    mask_suffix: MaskSuffixOption = "",
    count: Annotated[int, typer.Option(help="Number of images.", min=1)] = 12,
    columns: Annotated[int, typer.Option(help="Images in a row.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    num_classes: ClassesOption = None,
    class_names: NamesOption = None,
    colors: ColorsOption = None,
    remap: RemapOption = None,
    binary: BinaryOption = False,
    nearest_color: NearestOption = False,
    reduce_zero_label: ZeroOption = False,
    image_range: RangeOption = None,
) -> None:
    """Write a contact sheet of images with their masks over them."""
    from keras_exfuse.data import contact_sheet, open_source

    parts = open_source(
        source,
        split=split,
        masks=masks,
        image_suffix=image_suffix,
        mask_suffix=mask_suffix,
        check_files=False,
    )
    names, classes = _classes(source, parts, class_names, num_classes, binary)
    examples = (
        next(iter(parts.values()))
        .with_masks(**mask_options(colors, remap, binary, nearest_color, reduce_zero_label))
        .with_range(value_range(image_range))
    )
    sheet = contact_sheet(
        examples,
        class_names=names,
        count=count,
        columns=columns,
        seed=seed,
        num_classes=classes,
    )
    replace_file(output, lambda temporary: sheet.save(temporary, format="PNG"))
    shown = min(count, len(examples))
    console.print(
        f"{shown} of {len(examples)} images of {escape(examples.source)}: {escape(str(output))}",
        soft_wrap=True,
    )


@app.command()
def prepare(
    source: SourceArgument,
    output: Annotated[
        Path,
        typer.Argument(help="Directory for the records, with one in it for each split.", show_default=False),
    ],
    split: SplitOption = None,
    masks: MasksOption = None,
    image_suffix: ImageSuffixOption = "",
    mask_suffix: MaskSuffixOption = "",
    sbd: Annotated[
        Path | None, typer.Option(help="SBD's benchmark.tgz or folder: makes the split trainaug.")
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="raw: decoded pixels, fastest to read; encoded: the files as they are, small.")
    ] = "raw",
    on_error: Annotated[str, typer.Option(help="What to do at a bad example: raise or skip.")] = "raise",
    num_classes: ClassesOption = None,
    class_names: NamesOption = None,
    colors: ColorsOption = None,
    remap: RemapOption = None,
    binary: BinaryOption = False,
    nearest_color: NearestOption = False,
    reduce_zero_label: ZeroOption = False,
    image_range: RangeOption = None,
) -> None:
    """Check a data set and write it as records: checked once, and with raw pixels faster to read than files."""
    from keras_exfuse.data import open_source, voc_trainaug, write_records

    if sbd is not None and split in (None, "trainaug"):
        parts = {"trainaug": voc_trainaug(source, sbd)}
    else:
        parts = open_source(
            source, split=split, masks=masks, image_suffix=image_suffix, mask_suffix=mask_suffix
        )
    names, classes = _classes(source, parts, class_names, num_classes, binary)
    options = mask_options(colors, remap, binary, nearest_color, reduce_zero_label)
    for name, examples in parts.items():
        with progress_bar(f"writing {name}") as progress:
            skipped = write_records(
                examples.with_masks(**options).with_range(value_range(image_range)),
                output / name,
                num_classes=classes,
                class_names=names or None,
                pixels=pixels,
                on_error=on_error,
                progress=progress,
            )
        size = sum(file.stat().st_size for file in (output / name).iterdir())
        written = len(examples) - len(skipped)
        console.print(
            f"{name}: {written} examples, {size / 1e6:.0f} MB in {escape(str(output / name))}", soft_wrap=True
        )
        for bad, reason in skipped.items():
            console_error.print(f"[yellow]left out[/] {escape(bad)}: {escape(reason)}", soft_wrap=True)


def _classes(
    source: Path, parts: "dict[str, Examples]", given: str | None, count: int | None, binary: bool
) -> tuple[tuple[str, ...], int]:
    """Names and number of the classes: as given, of classes.txt, of the list; else 21, or 2, without names."""
    names = class_names_in(source) if given is None else read_class_names(given)
    if not names:
        names = next((part.class_names or () for part in parts.values()), ())
    number = count or len(names) or (2 if binary else _NUM_CLASSES)
    if len(names) > number:
        raise ValueError(
            f"{len(names)} class names for --num-classes {number}: expected at most one a class."
        )
    return tuple(names), number


def _print_report(name: str, report: "CheckReport") -> None:
    import numpy as np

    good = len(report.heights)
    head = f"[bold]{escape(name)}[/]: {report.count} examples, {good} good ({escape(report.source)})"
    console.print(head, soft_wrap=True)
    if good:
        heights, widths = np.array(report.heights), np.array(report.widths)
        console.print(
            f"sizes (width x height): {widths.min()} x {heights.min()} to {widths.max()} x {heights.max()}, "
            f"median {int(np.median(widths))} x {int(np.median(heights))}; "
            f"{report.void_share:.1%} of all pixels ignored (255)"
        )
        table = Table("class", "images", "share of the labelled pixels", box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for label, share in enumerate(report.pixel_shares):
            table.add_row(escape(report.name_of(label)), str(report.class_images[label]), f"{share:.2%}")
        console.print(table)
    for warning in report.warnings:
        console.print(f"[yellow]suspicious:[/] {escape(warning)}", soft_wrap=True)
    for reason in list(report.errors.values())[:_ERRORS_SHOWN]:
        console.print(f"[red]error:[/] {escape(reason)}", soft_wrap=True)
    if len(report.errors) > _ERRORS_SHOWN:
        console.print(f"... and {len(report.errors) - _ERRORS_SHOWN} more; --json FILE has all of them.")
    if good < report.count:
        console.print(f"[red]{report.count - good} of {report.count} examples are bad.[/]")


def _as_json(report: "CheckReport") -> dict[str, Any]:
    return {
        "source": report.source,
        "count": report.count,
        "num_classes": report.num_classes,
        "class_names": list(report.class_names or ()),
        "errors": report.errors,
        "warnings": report.warnings,
        "class_pixels": report.class_pixels[: report.num_classes].tolist(),
        "class_images": report.class_images[: report.num_classes].tolist(),
        "void_share": report.void_share,
        "heights": [min(report.heights, default=0), max(report.heights, default=0)],
        "widths": [min(report.widths, default=0), max(report.widths, default=0)],
    }
