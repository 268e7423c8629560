"""`keras-exfuse data review`."""

import enum
from pathlib import Path
from typing import Annotated

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


class Order(enum.StrEnum):
    """What images are sorted by."""

    iou = "iou"
    loss = "loss"
    label_quality = "label-quality"


def review(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder in VOC layout, a list, a folder of images and masks, or prepared records.",
            show_default=False,
        ),
    ],
    model: common.ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for sheet.png and images.csv.")
    ] = Path("review"),
    split: Annotated[
        str | None, typer.Option(help="List to review, of a VOC layout or of what was prepared.")
    ] = None,
    masks: MasksOption = None,
    image_suffix: ImageSuffixOption = "",
    mask_suffix: MaskSuffixOption = "",
    colors: ColorsOption = None,
    nearest_color: NearestOption = False,
    binary: BinaryOption = False,
    reduce_zero_label: ZeroOption = False,
    remap: RemapOption = None,
    image_range: RangeOption = None,
    by: Annotated[
        Order,
        typer.Option(
            help="iou: lowest IoU first; loss: highest cross-entropy first; label-quality: the masks first that are "
            "most probably wrong, ranked by cleanlab (extra review)."
        ),
    ] = Order.iou,
    count: Annotated[int, typer.Option(help="Number of images on the sheet.", min=1)] = 12,
    overwrite: common.OverwriteOption = False,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Look at the worst images of a data set: image, truth, prediction and difference, and a table of all.

    A model that was not trained on them shows what it gets wrong, and masks that are wrong themselves.
    """
    from keras_exfuse._files import replace_file
    from keras_exfuse.inference import review as run

    sheet, table = output / "sheet.png", output / "images.csv"
    common.check_nothing_there([sheet, table], overwrite)
    options = mask_options(colors, remap, binary, nearest_color, reduce_zero_label)
    examples = examples_of(source, split, masks, image_suffix, mask_suffix, options, value_range(image_range))
    network, names = common.network_of_classes(model)
    predictor = common.predictor_of(network, scales, flip, window)
    with common.progress_bar("reviewing", len(examples)) as advance:
        found = run(predictor, examples, len(names), names, by=by.value.replace("-", "_"), progress=advance)
    common.print_plain(found.table(count))
    found.write_csv(table)
    replace_file(sheet, found.sheet(count).save)
    common.print_plain(f"{min(count, len(found.scores))} of {len(found.scores)} images, the worst: {sheet}")
    common.print_plain(f"All of them: {table}")
