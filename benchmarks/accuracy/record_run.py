"""Adds a training run of the command line to a CSV of results: what was run, how long, where, and its scores.

keras-exfuse train ... --output RUN
keras-exfuse evaluate --model RUN/model.keras --data DATA --split val --classes ... --json SCORES.json
python -m benchmarks.accuracy.record_run RUN SCORES.json benchmarks/results/NAME.cpu-2cores.csv --note "machine idle"

With `--averaged FIRST`, a run that RUN went on from, the scores are those of the mean of both (`keras-exfuse average`),
whose steps and minutes are added.
"""

import argparse
import csv
import datetime
import json
import pathlib
import shlex

from keras_exfuse.data import VOC_CLASSES
from keras_exfuse.presets import preset_names
from keras_exfuse.training import Recipe

# What a row says of the recipe; its command says the rest.
RECIPE = ("backbone", "backbone_weights", "split", "steps", "batch_size", "crop_size", "learning_rate")
RECIPE += ("backbone_learning_rate", "weight_decay", "seed")


def command(recipe):
    """The command line that makes the run again: what differs from the defaults of `keras-exfuse train`."""
    defaults = Recipe(data="", epochs=1).to_dict()
    named = {"data": pathlib.Path(recipe["data"]).name, "steps": recipe["steps"], "epochs": recipe["epochs"]}
    different = {
        name: value for name, value in recipe.items() if name not in named and value != defaults.get(name)
    }
    if tuple(recipe["class_names"]) == VOC_CLASSES:
        different["class_names"] = "voc"
    if "init_from" in different:
        different["backbone_weights"] = None  # They are not used.
        different["init_from"] = begun_with(different["init_from"])
    words = [f"--{name} {value}" for name, value in named.items() if value is not None]
    words += [f"--set {shlex.quote(f'{name}={_in_toml(value)}')}" for name, value in different.items()]
    return " ".join(["keras-exfuse train", *words])


def begun_with(init_from):
    """What a run began with: a preset, the directory of a run or a model in one, wherever it is on this machine."""
    if init_from in preset_names():
        return init_from
    path = pathlib.Path(init_from)
    return f"runs/{path.parent.name}/{path.name}" if path.suffix == ".keras" else f"runs/{path.name}"


def _in_toml(value):
    """As `--set` reads it: words need no quotes."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def make_row(run, scores, note):
    """One row from the `run.json` in a run's directory and the JSON of `evaluate`."""
    record = json.loads((run / "run.json").read_text())
    recipe = record["recipe"]
    return {
        "run": run.name,
        "date": datetime.date.fromtimestamp((run / "run.json").stat().st_mtime).isoformat(),
        "data": pathlib.Path(recipe["data"]).name,
        **{name: recipe[name] for name in RECIPE},
        "command": command(recipe),
        "train_minutes": round(record["seconds"] / 60),
        "evaluated_on": scores["split"],
        "images": scores["num_images"],
        "mean_iou_chosen": scores["mean_iou_of_classes"],
        "chosen_classes": " ".join(str(label) for label in scores["classes"]),
        "mean_iou": scores["mean_iou"],
        "pixel_accuracy": scores["pixel_accuracy"],
        **{f"iou_{name}": "" if iou is None else iou for name, iou in scores["iou"].items()},
        "machine": f"{scores['machine']}{f' ({note})' if note else ''}",
        "backend": record["backend"],
        "keras": record["keras"],
    }


def averaged(row, first, second):
    """The row of the mean of two models: the second run's, with the first run's steps and time added."""
    before = json.loads((first / "run.json").read_text())
    files = " ".join(f"runs/{run.name}/model.keras" for run in (first, second))
    return {
        **row,
        "run": f"{first.name}_average",
        "steps": before["recipe"]["steps"] + row["steps"],
        "train_minutes": round(before["seconds"] / 60) + row["train_minutes"],
        "command": f"keras-exfuse average {files}",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("scores", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--averaged", type=pathlib.Path)
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    row = make_row(arguments.run, json.loads(arguments.scores.read_text()), arguments.note)
    if arguments.averaged is not None:
        row = averaged(row, arguments.averaged, arguments.run)
    rows = []
    if arguments.output.exists():
        with arguments.output.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if old["run"] != row["run"]]
    partial = arguments.output.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerows([*rows, row])
    partial.replace(arguments.output)


if __name__ == "__main__":
    main()
