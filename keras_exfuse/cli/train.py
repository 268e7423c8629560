"""`keras-exfuse train`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_exfuse.cli import common

SWITCHES = {
    "seb": "semantic_embedding",
    "ecre": "channel_resolution_embedding",
    "dap": "densely_adjacent_prediction",
    "ss": "semantic_supervision",
}
_MODEL, _DATA, _COURSE = "The model", "The data", "The course"


def train(
    data: Annotated[
        Path, typer.Option(help="Folder in VOC layout.", rich_help_panel=_DATA, show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of the run: model.keras, log.csv, run.json.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option(help="List to train on.", rich_help_panel=_DATA)] = "train",
    val_split: Annotated[
        str | None, typer.Option(help="List to validate on after each pass.", rich_help_panel=_DATA)
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            help="Classes, background included. [dim]By default as many as there are names, else 21.[/]",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="A file with a name on each line, or names with commas. [dim]By default DATA/classes.txt if it is "
            "there, and VOC's for 21 classes.[/]",
            metavar="FILE|LIST",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    crop: Annotated[int, typer.Option(help="Side of the random crops.", min=32, rich_help_panel=_DATA)] = 256,
    scale: Annotated[
        str, typer.Option(help="Range of the random scale.", metavar="LOW,HIGH", rich_help_panel=_DATA)
    ] = "0.75,1.5",
    backbone: Annotated[
        str, typer.Option(help="Name of the encoder.", rich_help_panel=_MODEL)
    ] = "efficientnet_lite0",
    backbone_weights: Annotated[
        str | None,
        typer.Option(help='"imagenet", "none", or a weights file.', rich_help_panel=_MODEL),
    ] = "imagenet",
    switches: Annotated[
        str,
        typer.Option(
            help="The paper's ideas that are on: seb, ecre, dap, ss, with commas; or none, which is GCN.",
            metavar="LIST",
            rich_help_panel=_MODEL,
        ),
    ] = "seb,ecre,dap",
    kernel_size: Annotated[
        int, typer.Option(help="Odd size of the global convolutions.", rich_help_panel=_MODEL)
    ] = 7,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Batches in all; instead of --epochs.", min=1, rich_help_panel=_COURSE, show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the data. [dim]20 by default.[/]", min=1, rich_help_panel=_COURSE),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures in a batch.", min=1, rich_help_panel=_COURSE)] = 8,
    learning_rate: Annotated[
        float, typer.Option(help="Highest learning rate.", rich_help_panel=_COURSE)
    ] = 5e-4,
    encoder_learning_rate: Annotated[
        float | None,
        typer.Option(
            help="The encoder's. [dim]The same by default.[/]", rich_help_panel=_COURSE, show_default=False
        ),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(help="AdamW's weight decay.", rich_help_panel=_COURSE)
    ] = 1e-4,
    warmup: Annotated[
        float, typer.Option(help="Share of the run in which the rate rises.", rich_help_panel=_COURSE)
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and crops.", rich_help_panel=_COURSE)] = 0,
) -> None:
    """Train or fine-tune a model on a folder in VOC layout.

    An interrupted run goes on where it was when the same command is repeated.
    """
    from keras_exfuse.cli.progress import TrainingProgress
    from keras_exfuse.data import VOC_CLASSES
    from keras_exfuse.training import Recipe
    from keras_exfuse.training import train as run

    names = common.read_class_names(class_names, data)
    num_classes = num_classes or len(names) or len(VOC_CLASSES)
    if not names and num_classes == len(VOC_CLASSES):
        names = VOC_CLASSES
    range_ = common.numbers(scale, "--scale")
    if len(range_) != 2:
        raise ValueError(f"--scale: expected two numbers LOW,HIGH, got {scale!r}.")
    recipe = Recipe(
        data=str(data),
        split=split,
        val_split=val_split,
        num_classes=num_classes,
        class_names=names,
        backbone=backbone,
        backbone_weights=None if backbone_weights == "none" else backbone_weights,
        **_switches(switches),
        kernel_size=kernel_size,
        steps=steps,
        epochs=epochs if epochs or steps else 20,
        batch_size=batch_size,
        crop_size=crop,
        scale=range_,
        learning_rate=learning_rate,
        encoder_learning_rate=encoder_learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        seed=seed,
    )
    _, record = run(recipe, output, callbacks=[TrainingProgress(common.console)], verbose=0)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in record["scores"].items())
    common.console.print(f"{record['steps']} steps in {record['seconds']:.0f} s: {scores}")
    common.console.print(f"The model is {output}/model.keras. Next:", markup=False)
    common.console.print(
        f"  keras-exfuse evaluate --model {output} --data {data} --split {val_split or split}\n"
        f"  keras-exfuse predict --model {output} --output predictions PICTURES\n"
        f"  keras-exfuse export --model {output} --output serving/exfuse/1",
        markup=False,
    )


def _switches(text: str) -> dict[str, bool]:
    """The model's four arguments from a list of short names."""
    chosen = set() if text.strip() in ("", "none") else {name.strip().lower() for name in text.split(",")}
    unknown = sorted(chosen - set(SWITCHES))
    if unknown:
        raise ValueError(
            f"--switches: there is no {', '.join(unknown)}; expected some of {', '.join(SWITCHES)}, or none."
        )
    return {argument: name in chosen for name, argument in SWITCHES.items()}
