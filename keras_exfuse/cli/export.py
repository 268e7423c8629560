"""`keras-exfuse export`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_exfuse.cli import common


def export(
    model: common.ModelOption,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the SavedModel. TensorFlow Serving wants a number as its last part: serving/exfuse/1.",
            show_default=False,
        ),
    ],
    overwrite: common.OverwriteOption = False,
) -> None:
    """Write a SavedModel: uint8 pictures in, labels out, no Keras needed to run it."""
    from keras_exfuse.export import export_savedmodel

    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already. Choose another version number, or pass --overwrite.")
    path = export_savedmodel(common.load_model(model), output, overwrite=overwrite)
    common.console.print(
        f"The SavedModel is {path}. Signatures, for any batch size, height and width:", markup=False
    )
    common.console.print("  serving_default  images uint8 (B, H, W, 3) -> labels (B, H, W)", markup=False)
    common.console.print(
        "  scores           images uint8 (B, H, W, 3) -> scores float32 (B, H, W, classes)", markup=False
    )
    if path.name.isdigit():
        common.console.print(
            f"To serve it:\n  tensorflow_model_server --rest_api_port=8501 --model_name={path.parent.name} "
            f"--model_base_path={path.parent.resolve()}",
            markup=False,
        )
