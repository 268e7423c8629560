"""`keras-exfuse evaluate`."""

import csv
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_exfuse.cli import common
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
    examples_of,
    mask_options,
    value_range,
)


def evaluate(
    model: common.ModelOption,
    data: Annotated[
        Path,
        typer.Option(
            help="Folder in VOC layout, a list, a folder of images and masks, or prepared records.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str, typer.Option(help="List to evaluate on, of a VOC layout or of what was prepared.")
    ] = "val",
    val_fraction: Annotated[
        float | None,
        typer.Option(help="Evaluate on the part that a training with this --val-fraction left out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that training.")] = 0,
    masks: MasksOption = None,
    image_suffix: ImageSuffixOption = "",
    mask_suffix: MaskSuffixOption = "",
    colors: ColorsOption = None,
    nearest_color: NearestOption = False,
    binary: BinaryOption = False,
    reduce_zero_label: ZeroOption = False,
    remap: RemapOption = None,
    image_range: RangeOption = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes that the mean is also restricted to, for example 0,8,12.", metavar="LIST"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write scores and confusion matrix to this file.")
    ] = None,
    csv_row: Annotated[
        Path | None, typer.Option(help="Append a row with scores, settings and machine to this file.")
    ] = None,
    worst: Annotated[
        int | None, typer.Option(help="Also list the N images with the lowest IoU.", metavar="N", min=1)
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Draw the worst images into this PNG, 12 or --worst of them: image, truth, prediction, difference."
        ),
    ] = None,
    images_csv: Annotated[
        Path | None, typer.Option(help="Write the scores of each image to this file, the worst first.")
    ] = None,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Score a model: each image at its own size, 255 not counted, one confusion matrix over all."""
    from keras_exfuse.inference import Predictor, review
    from keras_exfuse.inference.evaluation import check_classes
    from keras_exfuse.training.data import training_and_validation

    options = mask_options(colors, remap, binary, nearest_color, reduce_zero_label)
    examples = examples_of(data, split, masks, image_suffix, mask_suffix, options, value_range(image_range))
    if val_fraction is not None:
        examples = training_and_validation(examples, val_fraction, seed)[1]
    network, names = common.network_of_classes(model)
    num_classes = len(names)
    chosen = None if classes is None else common.numbers(classes, "--classes", int)
    if chosen is not None:
        check_classes(chosen, num_classes)
    predictor = Predictor(network, scales=common.numbers(scales, "--scales"), flip=flip, window=window)
    with common.progress_bar("evaluating", len(examples)) as advance:
        images = review(predictor, examples, num_classes, names, progress=advance)
    result = images.evaluation
    _print_table(result, chosen)
    if worst is not None:
        common.print_plain(images.table(worst))
    if images_csv is not None:
        common.print_plain(f"Written: {images.write_csv(images_csv)}")
    if sheet is not None:
        from keras_exfuse._files import replace_file

        drawn = images.sheet(worst or 12)
        common.print_plain(f"Written: {replace_file(sheet, lambda path: drawn.save(path, format='PNG'))}")
    settings = {
        "model": str(model),
        "data": str(data),
        "split": split,
        "scales": scales,
        "flip": flip,
        "window": window,
    }
    if json_file is not None:
        from keras_exfuse._files import replace_file

        record = {**settings, **_machine(), **result.to_dict(chosen)}
        replace_file(json_file, lambda path: path.write_text(json.dumps(record, indent=2) + "\n"))
        common.console.print(f"Written: {json_file}", markup=False)
    if csv_row is not None:
        summary = result.to_dict(chosen)
        del summary["confusion_matrix"], summary["iou"]
        summary["classes"] = "" if chosen is None else " ".join(str(label) for label in chosen)
        _append_row(csv_row, {"date": datetime.date.today().isoformat(), **settings, **_machine(), **summary})
        common.console.print(f"Appended to: {csv_row}", markup=False)


def _print_table(result, chosen: tuple[int, ...] | None) -> None:
    from rich.table import Table

    table = Table(title=f"{result.num_images} images, each at its own size")
    table.add_column("class", justify="right")
    table.add_column("name")
    table.add_column("IoU", justify="right")
    table.add_column("share of pixels", justify="right")
    shares = result.counts.sum(axis=1) / max(result.counts.sum(), 1)
    for label, (name, iou) in enumerate(zip(result.class_names, result.iou, strict=True)):
        mark = "*" if chosen is not None and label in chosen else ""
        score = "not there" if iou != iou else f"{iou:.4f}"
        table.add_row(f"{label}{mark}", name, score, f"{100 * shares[label]:.1f} %")
    common.console.print(table)
    if chosen is not None:
        common.console.print(
            f"mean IoU over the {len(chosen)} classes marked *: [bold]{result.mean_iou(chosen):.4f}[/]"
        )
    common.console.print(f"mean IoU over all classes that occur: [bold]{result.mean_iou():.4f}[/]")
    common.console.print(f"pixel accuracy: {result.pixel_accuracy:.4f}; {result.seconds:.0f} s")


def _machine() -> dict[str, Any]:
    import keras

    return {
        "machine": f"{_cpu()}, {os.cpu_count()} cores",
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }


def _cpu() -> str:
    """The CPU's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _append_row(file: Path, row: dict[str, Any]) -> None:
    """Appends to a table; the first row writes the header, and later ones must fit it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        with file.open(newline="") as stream:
            header = next(csv.reader(stream), [])
        if header != list(row):
            raise ValueError(
                f"{file} has other columns: {header}, expected {list(row)}. Choose another file."
            )
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
