"""`keras-exfuse demo`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_exfuse.cli import common


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for everything it makes.")] = Path(
        "demo"
    ),
    steps: Annotated[int, typer.Option(help="Steps of the fine-tuning.", min=1)] = 240,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and order.")] = 0,
) -> None:
    """The package end to end in a few minutes: data, fine-tuning, images, a SavedModel.

    What an earlier demo wrote in the directory is replaced.
    """
    from keras_exfuse.cli.demonstration.run import run_demo
    from keras_exfuse.cli.progress import TrainingProgress

    with TrainingProgress(common.console) as progress:
        run_demo(output, steps=steps, seed=seed, say=common.console.print, callbacks=[progress])
