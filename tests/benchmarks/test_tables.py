"""The tables of the README and of the preset's card are those of the stored results."""

import pytest

from benchmarks import record_run, tables
from keras_exfuse.cli.train import _recipe, _settings

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize("document", tables.TABLES, ids=lambda path: path.parent.name)
def test_every_table_is_up_to_date(document):
    assert tables.fill(document) == document.read_text(), "run `python -m benchmarks.tables`"


def test_a_recorded_command_makes_the_run_again():
    changes = {"steps": 9, "scale": (0.5, 2.0), "flip": False, "backbone_weights": "none", "ema": 0.9}
    recipe = _recipe(None, None, {"data": "voc2012_animals", **changes}, None)
    words = record_run.command(recipe.to_dict()).split(" --")
    assert words[:3] == ["keras-exfuse train", "data voc2012_animals", "steps 9"]
    settings = _settings([word.removeprefix("set ").strip("'") for word in words[3:]])
    assert set(settings) == {"scale", "flip", "backbone_weights", "ema"}
    assert _recipe(None, None, {"data": "voc2012_animals", "steps": 9, **settings}, None) == recipe


@pytest.mark.parametrize("source", ["/elsewhere/first/model.keras", "runs/first", "/elsewhere/first"])
def test_a_recorded_command_names_the_run_before_without_its_place(source):
    recipe = _recipe(None, None, {"data": "voc2012_animals", "steps": 9, "init_from": source}, None)
    command = record_run.command(recipe.to_dict())
    assert "--set init_from=runs/first" in command and "--set backbone_weights=none" in command
