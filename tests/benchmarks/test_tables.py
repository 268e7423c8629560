"""The tables of the README and of the preset's card are those of the stored results."""

import json

import pytest

from benchmarks import tables
from benchmarks.accuracy import record_run
from keras_exfuse import data
from keras_exfuse.cli.train import _recipe, _settings

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize("document", tables.TABLES, ids=lambda path: path.parent.name)
def test_every_table_is_up_to_date(document):
    assert tables.fill(document) == document.read_text(), "run `python -m benchmarks.tables`"


def test_a_recorded_command_makes_the_run_again():
    changes = {"steps": 9, "scale": (0.5, 2.0), "flip": False, "backbone_weights": "none", "ema": 0.9}
    changes["class_names"] = data.VOC_CLASSES
    recipe = _recipe(None, None, {"data": "voc2012_animals", **changes}, None)
    words = record_run.command(recipe.to_dict()).split(" --")
    assert words[:3] == ["keras-exfuse train", "data voc2012_animals", "steps 9"]
    settings = _settings([word.removeprefix("set ").strip("'") for word in words[3:]])
    assert set(settings) == {"scale", "flip", "backbone_weights", "ema", "class_names"}
    assert _recipe(None, None, {"data": "voc2012_animals", "steps": 9, **settings}, None) == recipe


PRESET = "exfuse_efficientnet_lite0.voc2012_animals"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("/elsewhere/first/model.keras", "runs/first/model.keras"),
        ("/elsewhere/first", "runs/first"),
        ("runs/first", "runs/first"),
        (PRESET, PRESET),
    ],
)
def test_a_recorded_command_names_what_it_began_with_without_its_place(source, named):
    recipe = _recipe(None, None, {"data": "voc2012_animals", "steps": 9, "init_from": source}, None)
    command = record_run.command(recipe.to_dict())
    assert f"--set init_from={named}" in command and "--set backbone_weights=none" in command


def test_the_row_of_a_mean_of_two_runs_counts_both(tmp_path):
    runs = [tmp_path / name for name in ("first", "second")]
    runs[0].mkdir()
    (runs[0] / "run.json").write_text(json.dumps({"recipe": {"steps": 40}, "seconds": 600}))
    second = {"run": "second", "steps": 30, "train_minutes": 9, "mean_iou": 0.5}
    assert record_run.averaged(second, *runs) == {
        "run": "first_average",
        "steps": 70,
        "train_minutes": 19,
        "mean_iou": 0.5,
        "command": "keras-exfuse average runs/first/model.keras runs/second/model.keras",
    }
