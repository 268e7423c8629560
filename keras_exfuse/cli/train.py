"""`keras-exfuse train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_exfuse.cli import common
from keras_exfuse.cli.masks import (
    BinaryOption,
    ColorsOption,
    NearestOption,
    RangeOption,
    RemapOption,
    ZeroOption,
    mask_options,
    repeated_options,
    value_range,
)

SWITCHES = {
    "seb": "semantic_embedding",
    "ecre": "channel_resolution_embedding",
    "dap": "densely_adjacent_prediction",
    "ss": "semantic_supervision",
}
_MODEL, _DATA, _COURSE = "The model", "The data", "The course"
_EPOCHS = 20  # Where neither a recipe nor an option says how long.


def _option(text: str, default: str | None, panel: str, metavar: str | None = None, **options: Any) -> Any:
    """An option that is None where it is not given, so that a recipe's value stands."""
    shown = f"[dim]{default} by default.[/]" if default else ""
    return typer.Option(
        help=f"{text} {shown}".strip(), rich_help_panel=panel, metavar=metavar, show_default=False, **options
    )


def train(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Directory of the run: model.keras, log.csv, run.json.", show_default=False
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="A recipe of the package by name, such as camvid_lite0, or a .toml file. Options override its values.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the unfinished run in OUTPUT; no other option is needed."),
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of a recipe, for example --set clip_norm=1. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        _option(
            "Folder in VOC layout, a list, a folder of images and masks, or prepared records.", None, _DATA
        ),
    ] = None,
    split: Annotated[str | None, _option("List to train on.", "train", _DATA)] = None,
    val_split: Annotated[str | None, _option("List to validate on after each epoch.", None, _DATA)] = None,
    val_data: Annotated[str | None, _option("Other data to validate on, as --data.", None, _DATA)] = None,
    val_fraction: Annotated[
        float | None,
        _option("Or the fraction of the images to validate on, drawn by the seed.", None, _DATA),
    ] = None,
    masks: Annotated[
        str | None, _option("Folder of the masks, if --data is that of the images.", None, _DATA)
    ] = None,
    val_masks: Annotated[str | None, _option("The same of --val-data.", None, _DATA)] = None,
    image_suffix: Annotated[
        str | None,
        _option("What names of images end with, and those of masks do not.", None, _DATA, "_TEXT"),
    ] = None,
    mask_suffix: Annotated[
        str | None,
        _option(
            "What names of masks end with, such as _mask, and those of images do not.", None, _DATA, "_TEXT"
        ),
    ] = None,
    colors: ColorsOption = None,
    nearest_color: NearestOption = False,
    binary: BinaryOption = False,
    reduce_zero_label: ZeroOption = False,
    remap: RemapOption = None,
    image_range: RangeOption = None,
    num_classes: Annotated[
        int | None,
        _option(
            "Classes, background included.",
            "As many as there are names, 2 with --binary, or as records were prepared for, else 21",
            _DATA,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        _option(
            "A file with a name on each line, names with commas, or voc.",
            "DATA/classes.txt",
            _DATA,
            "FILE|LIST|voc",
        ),
    ] = None,
    crop: Annotated[int | None, _option("Side of the random crops.", "256", _DATA, min=32)] = None,
    scale: Annotated[str | None, _option("Range of the random scale.", "0.75,1.5", _DATA, "LOW,HIGH")] = None,
    backbone: Annotated[str | None, _option("Name of the backbone.", "efficientnet_lite0", _MODEL)] = None,
    backbone_weights: Annotated[
        str | None, _option('"imagenet", "none", or a weights file.', "imagenet", _MODEL)
    ] = None,
    init_from: Annotated[
        str | None,
        _option(
            "Begin with the weights of this preset, finished run or .keras file.",
            None,
            _MODEL,
        ),
    ] = None,
    switches: Annotated[
        str | None,
        _option(
            "The paper's ideas that are on: seb, ecre, dap, ss, with commas; or none, which is GCN.",
            "seb,ecre,dap",
            _MODEL,
            "LIST",
        ),
    ] = None,
    kernel_size: Annotated[int | None, _option("Odd size of the global convolutions.", "7", _MODEL)] = None,
    steps: Annotated[
        int | None, _option("Batches in all; instead of --epochs.", None, _COURSE, min=1)
    ] = None,
    epochs: Annotated[
        int | None, _option("How often to go through the data.", str(_EPOCHS), _COURSE, min=1)
    ] = None,
    batch_size: Annotated[int | None, _option("Images in a batch.", "8", _COURSE, min=1)] = None,
    learning_rate: Annotated[float | None, _option("Highest learning rate.", "0.0005", _COURSE)] = None,
    backbone_learning_rate: Annotated[float | None, _option("The backbone's.", "The same", _COURSE)] = None,
    weight_decay: Annotated[float | None, _option("Weight decay of the kernels.", "0.0001", _COURSE)] = None,
    warmup: Annotated[
        float | None, _option("Fraction of the run in which the rate rises.", "0.05", _COURSE)
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        _option(
            'How often the state is stored inside an epoch: "N minutes" or "N steps".', "10 minutes", _COURSE
        ),
    ] = None,
    devices: Annotated[
        int | None,
        _option("Devices of this machine that share each batch (TensorFlow, JAX).", "1", _COURSE, min=1),
    ] = None,
    seed: Annotated[int | None, _option("Seed of weights, order and crops.", "0", _COURSE)] = None,
) -> None:
    """Train or fine-tune a model, after a recipe or on a folder in VOC layout.

    An interrupted run goes on where it was when the same command is repeated, or with --resume. Ctrl-C and SIGTERM stop
    it after its step, with its state stored: exit codes 130 and 143.
    """
    from keras_exfuse.cli.progress import TrainingProgress
    from keras_exfuse.loading import RUN
    from keras_exfuse.training import train as run

    options: dict[str, Any] = {
        "data": data,
        "split": split,
        "val_split": val_split,
        "val_data": val_data,
        "val_fraction": val_fraction,
        "masks": masks,
        "val_masks": val_masks,
        "image_suffix": image_suffix,
        "mask_suffix": mask_suffix,
        "value_range": value_range(image_range),
        **mask_options(colors, remap, binary, nearest_color, reduce_zero_label),
        "num_classes": num_classes,
        "crop_size": crop,
        "scale": None if scale is None else _scale(scale),
        "backbone": backbone,
        "backbone_weights": backbone_weights,
        "init_from": init_from,
        **(_switches(switches) if switches is not None else {}),
        "kernel_size": kernel_size,
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "backbone_learning_rate": backbone_learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "checkpoint_every": checkpoint_every,
        "devices": devices,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None} | _settings(setting or [])
    chosen = _recipe(recipe, output if resume else None, given, class_names)
    try:
        with TrainingProgress(common.console) as progress:
            _, record = run(chosen, output, callbacks=[progress], verbose=0, say=common.print_plain)
    except KeyboardInterrupt as interruption:
        lines = ["", str(interruption) or "Interrupted."]
        if (output / RUN).is_file():
            lines += ["To go on:", f"  keras-exfuse train --resume --output {output}"]
        common.console_error.print("\n".join(lines), markup=False)
        raise typer.Exit(getattr(interruption, "exit_code", 130)) from None
    _say_next(record, output)


def _recipe(recipe: str | None, resumed: Path | None, given: dict[str, Any], class_names: str | None) -> Any:
    """The recipe of a run: a named one, a file's or an unfinished run's, with what the command line gave."""
    from keras_exfuse.loading import MODEL, RUN
    from keras_exfuse.recipes import find_recipe
    from keras_exfuse.training import Recipe
    from keras_exfuse.training.settings import check_values, read_toml

    values: dict[str, Any] = {}
    source = "the command line"
    if resumed is not None:
        if not (resumed / RUN).is_file() or (resumed / MODEL).exists():
            what = "its run is finished" if (resumed / MODEL).exists() else f"there is no {RUN} in it"
            raise ValueError(f"--resume: {resumed} holds no unfinished run: {what}.")
        if recipe is not None:
            raise ValueError("--resume takes the settings from the run's directory: leave --recipe out.")
        values = Recipe.load(resumed / RUN).to_dict()
    elif recipe is not None:
        values, source = read_toml(find_recipe(recipe)), recipe
        values = check_values(Recipe, values, source)
    if given.get("steps") or given.get("epochs"):
        values = _without_length(values)
    values = {**values, **given}
    if values.get("steps") is None and values.get("epochs") is None:
        values["epochs"] = _EPOCHS
    if "data" not in values:
        raise ValueError(
            "--data is missing: give a folder in VOC layout, or a recipe that has `data` with --recipe."
        )
    # A run that goes on has them, and would not be the same with others.
    if resumed is None or class_names is not None:
        values.update(_classes(values, class_names))
    return Recipe.from_dict(values, source if not given else "the settings")


def _without_length(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values less its length: `steps` given on the command line replace its `epochs`."""
    return {name: value for name, value in values.items() if name not in ("steps", "epochs")}


def _classes(values: dict[str, Any], class_names: str | None) -> dict[str, Any]:
    """Number and names of the classes, from what was said of either."""
    from keras_exfuse.data import VOC_CLASSES

    names = values.get("class_names") or ()
    if class_names is not None:
        names = common.read_class_names(class_names)
    elif names == "voc" or (not names and (values.get("sbd") or values.get("coco"))):
        names = VOC_CLASSES  # SBD's masks, and COCO's as they are read here, have these labels.
    elif not names:
        names = common.class_names_in(Path(str(values["data"])))
    names = names or _names_in_data(values)
    num_classes = values.get("num_classes") or len(names) or (2 if values.get("binary") else 0)
    if not (names and num_classes):
        prepared_classes, prepared_names = _classes_of_records(values)
        num_classes = num_classes or prepared_classes or len(VOC_CLASSES)
        if not names and num_classes == prepared_classes:
            names = prepared_names
    return {"num_classes": num_classes, "class_names": tuple(names)}


def _names_in_data(values: dict[str, Any]) -> tuple[str, ...]:
    """Names of the classes that come with the data, such as an annotation tool's; none where they say nothing."""
    from keras_exfuse.data.sources import open_source

    if not (Path(values["data"]).is_dir() or Path(values["data"]).suffix.lower() == ".json"):
        return ()  # An archive would be unpacked.
    image_suffix, mask_suffix = (values.get(name) or "" for name in ("image_suffix", "mask_suffix"))
    try:
        parts = open_source(
            values["data"],
            masks=values.get("masks"),
            image_suffix=image_suffix,
            mask_suffix=mask_suffix,
            check_files=False,
        )
    except ValueError:
        return ()  # Records; or a mistake, which is told where the data are read.
    found = {part.class_names for part in parts.values() if part.class_names}
    return found.pop() if len(found) == 1 else ()


def _classes_of_records(values: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Number and names of the classes as prepared records note them; 0 where the data are something else."""
    from keras_exfuse.data.datasets.records import Records, records_folder

    folder = records_folder(values["data"], values.get("split", "train"))
    if folder is None:
        return 0, ()
    records = Records(folder)
    return records.num_classes, records.class_names


def _settings(assignments: list[str]) -> dict[str, Any]:
    from keras_exfuse.training import Recipe
    from keras_exfuse.training.settings import check_values, parse_assignment

    return check_values(Recipe, dict(parse_assignment(text) for text in assignments), "--set")


def _scale(text: str) -> tuple[float, ...]:
    limits = common.numbers(text, "--scale")
    if len(limits) != 2:
        raise ValueError(f"--scale: expected two numbers LOW,HIGH, got {text!r}.")
    return limits


def _switches(text: str) -> dict[str, bool]:
    """The model's four arguments from a list of short names."""
    chosen = set() if text.strip() in ("", "none") else {name.strip().lower() for name in text.split(",")}
    unknown = sorted(chosen - set(SWITCHES))
    if unknown:
        raise ValueError(
            f"--switches: there is no {', '.join(unknown)}; expected some of {', '.join(SWITCHES)}, or none."
        )
    return {argument: name in chosen for name, argument in SWITCHES.items()}


def _say_next(record: dict[str, Any], output: Path) -> None:
    recipe = record["recipe"]
    data, split = recipe["val_data"] or recipe["data"], recipe["val_split"] or recipe["split"]
    options = repeated_options(recipe)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in record["scores"].items())
    common.console.print(f"{record['steps']} steps in {record['seconds']:.0f} s: {scores}")
    common.console.print(f"The model is {output}/model.keras. Next:", markup=False)
    common.console.print(
        f"  keras-exfuse evaluate --model {output} --data {data} --split {split}{options}\n"
        f"  keras-exfuse predict --model {output} --output predictions IMAGES\n"
        f"  keras-exfuse export --model {output} --output serving/exfuse/1",
        markup=False,
    )
