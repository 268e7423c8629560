"""`keras-exfuse export`."""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_exfuse.cli import common


class Format(enum.StrEnum):
    """What can be written."""

    savedmodel = "savedmodel"
    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"
    litert_int8 = "litert-int8"


def export(
    model: common.ModelOption,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="What to write. A SavedModel is a directory, for TensorFlow Serving with a number as its last part: "
            "serving/exfuse/1. The others are files: exfuse.onnx, exfuse.xml (OpenVINO), exfuse.tflite (LiteRT).",
            show_default=False,
        ),
    ],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Which runtime it is for.")
    ] = Format.savedmodel,
    fuse: Annotated[
        bool, typer.Option(help="Fold batch normalisation and what else can be folded: faster, same labels.")
    ] = True,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="SavedModel: refuse requests with more pixels (padded size times batch), to bound time and memory.",
            min=1024,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="SavedModel: names of the classes, with commas, a file with one on each line, or voc."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="litert-int8: folder of images like those to be labelled. Ranges are measured on them."
        ),
    ] = None,
    overwrite: common.OverwriteOption = False,
) -> None:
    """Write a model for a server or another runtime: uint8 images in, labels out, no Keras needed to run it."""
    from keras_exfuse.inference.exported import is_exported
    from keras_exfuse.loading import load

    _check_options(format, max_pixels, class_names, images)
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already. Choose another name or number, or pass --overwrite.")
    if is_exported(model):
        raise ValueError(f"{model} is an exported model: `export` needs the Keras model that it came from.")
    loaded = load(model)
    options: dict[str, Any] = {"fuse": fuse, "overwrite": overwrite}
    if format is Format.savedmodel:
        options["class_names"] = (
            loaded.class_names if class_names is None else common.read_class_names(class_names)
        )
        if max_pixels is not None:
            options["max_pixels"] = max_pixels
    if images is not None:
        options["images"] = images
    path = _exporter(format)(loaded, output, **options)
    common.console.print(_what_it_is(format, path), markup=False)


def _check_options(
    format: Format, max_pixels: int | None, class_names: str | None, images: Path | None
) -> None:
    if format is not Format.savedmodel and (max_pixels is not None or class_names is not None):
        raise ValueError(
            f"--max-pixels and --class-names are for savedmodel only; --format is {format.value}."
        )
    if format is Format.litert_int8 and images is None:
        raise ValueError("--format litert-int8 needs --images: a folder of images to measure ranges on.")
    if format is not Format.litert_int8 and images is not None:
        raise ValueError(f"--images is for litert-int8 only; --format is {format.value}.")


def _exporter(format: Format) -> Callable[..., Path]:
    from keras_exfuse import export

    exporters: dict[Format, Callable[..., Path]] = {
        Format.savedmodel: export.export_savedmodel,
        Format.onnx: export.export_onnx,
        Format.openvino: export.export_openvino,
        Format.litert: export.export_litert,
        Format.litert_int8: export.export_litert_int8,
    }
    return exporters[format]


def _what_it_is(format: Format, path: Path) -> str:
    if format is not Format.savedmodel:
        return (
            f"{path}: images uint8 (B, H, W, 3) -> labels (B, H, W), for any batch size, height and width.\n"
            f"To segment images with it:\n  keras-exfuse predict IMAGES --model {path} --output FOLDER"
        )
    lines = [
        f"The SavedModel is {path}. Signatures, for any batch size, height and width:",
        "  serving_default  images uint8 (B, H, W, 3) -> labels (B, H, W)",
        "  scores           images uint8 (B, H, W, 3) -> scores float32 (B, H, W, classes)",
        "  encoded          encoded (B,), bytes of JPEG or PNG -> labels_png (B,), PNG of labels",
        "  encoded_bytes    the same -> labels_png_bytes (B,), as TensorFlow Serving's HTTP interface needs it",
    ]
    if path.name.isdigit():
        lines.append(
            f"To serve it:\n  tensorflow_model_server --rest_api_port=8501 --model_name={path.parent.name} "
            f"--model_base_path={path.parent.resolve()}"
        )
    return "\n".join(lines)
