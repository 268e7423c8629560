"""Recipes as files: every one that is shipped, and the mistakes that a person makes in one."""

import csv
import pathlib
import re

import pytest

from keras_exfuse.backbones import BACKBONES
from keras_exfuse.recipes import DIRECTORY, find_recipe, recipe_names
from keras_exfuse.training import Recipe
from keras_exfuse.training.settings import parse_assignment, write_toml

pytestmark = pytest.mark.backend_independent

RESULTS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def test_the_recipes_are_there():
    names = set(recipe_names())
    stages = {
        f"paper_{name}_stage{n}" for name in ("resnet50", "resnet101", "resnext101_lr") for n in (1, 2, 3)
    }
    stages |= {"voc2012_animals_lite0", "voc2012_animals_lite0_stage2"}
    assert names == stages | {"imagenet_semantic_supervision", "transfer_own_folder", "camvid_lite0"}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_loads_by_name_and_says_what_it_is(name):
    recipe, path = Recipe.load(name), DIRECTORY / f"{name}.toml"
    assert recipe == Recipe.load(path) == Recipe.load(str(path))
    assert recipe.backbone in BACKBONES
    assert recipe.augmentation().size == (recipe.crop_size, recipe.crop_size)
    top = path.read_text().split("\n\n")[0]
    assert f"keras-exfuse train --recipe {name} " in top
    expected = re.search(r"Expected score: (not run here|mean IoU about (0\.\d{3}))", top)
    assert expected
    if expected[2]:
        with (RESULTS / f"{name.removesuffix('_stage2')}.cpu-2cores.csv").open(newline="") as file:
            (row,) = [row for row in csv.DictReader(file) if row["run"] == name]
        assert f"{float(row['mean_iou_chosen']):.3f}" == expected[2] and int(row["steps"]) == recipe.steps
    assert "hardware:" in top


def test_the_stages_are_chained():
    for name in ("resnet50", "resnet101", "resnext101_lr"):
        first, second, third = (Recipe.load(f"paper_{name}_stage{n}") for n in (1, 2, 3))
        assert first.coco and first.sbd and second.sbd and not second.coco and not third.sbd
        assert second.init_from == f"runs/{name}_stage1" and third.init_from == f"runs/{name}_stage2"
        for switch in ("backbone", "kernel_size", "num_classes"):
            assert getattr(first, switch) == getattr(second, switch) == getattr(third, switch)
    assert Recipe.load("voc2012_animals_lite0_stage2").init_from == "runs/voc2012_animals_lite0"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("lerning_rate = 1", "unknown setting 'lerning_rate'. Did you mean 'learning_rate'?"),
        ('learning_rate = "high"', "`learning_rate` must be a number, got 'high'"),
        ("batch_size = 2.5", "`batch_size` must be a whole number, got 2.5"),
        ("batch_size = true", "`batch_size` must be a whole number, got True"),
        ("flip = 1", "`flip` must be true or false, got 1"),
        ("scale = [0.5]", "`scale` must be a list of 2, each a number"),
        ("val_split = 3", "`val_split` must be a string or none"),
        ('dtype = "float16"', "`dtype` must be one of 'float32', 'mixed_float16', 'mixed_bfloat16'"),
        ('class_names = "cat"', "`class_names` must be a list, each a string"),
        ("xyzzy = 1", "The settings are num_classes, backbone"),
        ("devices = 3", "must be a multiple of their number"),
        ("ema = 1.0", "`ema` must lie within 0..1"),
        ("steps =", "is not TOML: Invalid value"),
    ],
)
def test_mistakes(tmp_path, line, text):
    file = tmp_path / "recipe.toml"
    file.write_text(f'data = "voc"\nepochs = 1\n{line}\n')
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        Recipe.load(file)
    if "TOML" in text or "unknown" in text:
        assert "recipe.toml" in str(caught.value)


def test_no_data_and_no_file(tmp_path):
    (tmp_path / "empty.toml").write_text("epochs = 1")
    with pytest.raises(ValueError, match="empty.toml has no `data`"):
        Recipe.load(tmp_path / "empty.toml")
    with pytest.raises(ValueError, match=r"no recipe .*none\.toml.*one of camvid_lite0, .*lite0_stage2\.$"):
        Recipe.load(tmp_path / "none.toml")


def test_a_name_is_found_from_anywhere_and_a_near_one_proposed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid_lite0").mkdir()  # Such as the directory of its run.
    assert find_recipe("camvid_lite0").parent == DIRECTORY
    with pytest.raises(ValueError, match="no recipe 'paper_resnet50'.*Did you mean 'paper_resnet50_stage"):
        find_recipe("paper_resnet50")


def test_a_recipe_survives_toml(tmp_path):
    recipe = Recipe(
        data='a "quoted" \\ näme', steps=3, scale=(1, 2), class_names=("a", "b"), num_classes=2, ema=0.9
    )
    (tmp_path / "again.toml").write_text(write_toml(recipe.to_dict()), encoding="utf-8")
    assert Recipe.load(tmp_path / "again.toml") == recipe


def test_assignments():
    assert parse_assignment("clip-norm = 1") == ("clip_norm", 1)
    assert parse_assignment("scale=[0.5, 2]") == ("scale", [0.5, 2])
    assert parse_assignment("val_split=none") == ("val_split", None)
    assert parse_assignment("backbone=resnet50") == ("backbone", "resnet50")
    with pytest.raises(ValueError, match="expected NAME=VALUE"):
        parse_assignment("flip")
