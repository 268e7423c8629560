"""`keras-exfuse average`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_exfuse.cli import common


def average(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more models of one architecture: .keras files, directories of finished runs, or presets.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .keras file to write.", show_default=False)
    ],
    overwrite: common.OverwriteOption = False,
) -> None:
    """Average the weights of trained models, such as a run and the one that it went on from.

    The mean may be better than each of them; evaluate it to know.
    """
    from keras_exfuse.presets.card import make_card, save_with_card
    from keras_exfuse.training import average_models

    if output.suffix != ".keras":
        raise ValueError(f"--output: expected a name that ends in .keras, got {output}.")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already. Choose another name, or pass --overwrite.")
    mean = average_models(models)
    save_with_card(mean, output, make_card(getattr(mean, "class_names", None)))
    common.print_plain(
        f"The mean of {len(models)} models is {output}. To score it:\n"
        f"  keras-exfuse evaluate --model {output} --data DATA"
    )
