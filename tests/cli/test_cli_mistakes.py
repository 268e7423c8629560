"""A user's mistake is one line that says what to do, and exit code 2."""

import dataclasses

import keras
import pytest

from keras_exfuse import cli
from keras_exfuse.cli.demonstration import synthetic

pytestmark = pytest.mark.backend_independent


def test_unknown_command_and_missing_option(command):
    assert command("segment")[0] == 2
    assert command("evaluate", "--data", "somewhere")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--split", "trian"], "Did you mean 'train'"),
        (["--num-classes", "3"], "names for 3 classes"),
        (["--num-classes", "3", "--class-names", "a,b,c"], "expected 0..2"),
        (["--backbone", "efficientnet_lite"], "efficientnet_lite0"),
        (["--scale", "1"], "LOW,HIGH"),
        (["--scale", "a,b"], "numbers with commas"),
        (["--class-names", "only one"], "neither a file, nor a list of names with commas, nor voc"),
        (["--switches", "seb,dab"], "there is no dab"),
        (["--kernel-size", "4"], "odd"),
        (["--epochs", "3"], "either `steps` or `epochs`"),
        (["--learning-rate", "-1"], "greater than 0"),
        (["--backbone-weights", "wrong.npz"], "wrong.npz"),
        (["--set", "clip_nrom=1"], "--set: unknown setting 'clip_nrom'. Did you mean 'clip_norm'?"),
        (["--set", "flip=perhaps"], "`flip` must be true or false, got 'perhaps'"),
        (["--set", "flip"], "expected NAME=VALUE"),
        (
            ["--init-from", "nowhere"],
            "init_from = 'nowhere': There is no model at nowhere. Expected a .keras file",
        ),
        (["--devices", "64"], "must be a multiple of their number"),
    ],
)
def test_train(command, data, tmp_path, arguments, text):
    options = {"--data": data, "--output": tmp_path / "run", "--steps": 1, "--crop": 64, "--batch-size": 2}
    options.update({"--backbone": "tiny", "--backbone-weights": "none", "--switches": "none"})
    options.update(zip(arguments[::2], arguments[1::2], strict=True))
    if "--backbone-weights" in arguments:
        options["--backbone"] = "efficientnet_lite0"
    code, _, err = command("train", *[part for option in options.items() for part in option])
    assert code == 2, err
    assert text in err
    assert not (tmp_path / "run" / "model.keras").exists()


def test_train_after_a_recipe(command, data, tmp_path):
    file = tmp_path / "mine.toml"
    for text, expected in (
        ("stepps = 3", "mine.toml: unknown setting 'stepps'. Did you mean 'steps'?"),
        ("steps = 'many'", "mine.toml: `steps` must be a whole number or none, got 'many'"),
        ("steps = 3", "--data is missing"),
        ("steps = [", "is not TOML"),
    ):
        file.write_text(text)
        code, _, err = command("train", "--recipe", file, "--output", tmp_path / "run")
        assert code == 2 and expected in err
    for name in (tmp_path / "no.toml", "camvid_lite"):
        code, _, err = command("train", "--recipe", name, "--output", tmp_path / "run")
        assert (
            code == 2 and f"There is no recipe '{name}'" in err and "camvid_lite0, imagenet_semantic" in err
        )
    assert "Did you mean 'camvid_lite0'?" in err
    assert not (tmp_path / "run").exists()


def test_options_go_before_the_recipe(tmp_path):
    from keras_exfuse.cli.train import _recipe

    file = tmp_path / "mine.toml"
    file.write_text('data = "voc"\nsteps = 3\nbatch_size = 4\nnum_classes = 2\nflip = false\n')
    recipe = _recipe(str(file), None, {"epochs": 7, "batch_size": 2, "clip_norm": 1.0}, "cat,dog")
    assert (recipe.steps, recipe.epochs, recipe.batch_size, recipe.flip) == (None, 7, 2, False)
    assert recipe.class_names == ("cat", "dog") and recipe.clip_norm == 1.0 and recipe.data == "voc"
    assert _recipe(None, None, {"data": "voc"}, None).epochs == 20


def test_no_class_names_are_guessed():
    """VOC's stand where somebody asks for them, or where the data are VOC's by construction."""
    from keras_exfuse.cli.train import _recipe
    from keras_exfuse.data import VOC_CLASSES

    recipe = _recipe(None, None, {"data": "images"}, None)
    assert (recipe.num_classes, recipe.class_names) == (21, ())
    for given, names in (({}, "voc"), ({"sbd": "benchmark.tgz"}, None), ({"class_names": "voc"}, None)):
        assert _recipe(None, None, {"data": "images", **given}, names).class_names == VOC_CLASSES
    assert _recipe("paper_resnet50_stage3", None, {}, None).class_names == VOC_CLASSES


def test_prepared_records_know_their_classes(data, tmp_path):
    from keras_exfuse.cli.train import _recipe
    from keras_exfuse.data import open_source, write_records

    examples = open_source(data)["train"]
    write_records(examples, tmp_path / "train", num_classes=5, class_names=synthetic.CLASS_NAMES)
    recipe = _recipe(None, None, {"data": str(tmp_path)}, None)
    assert (recipe.num_classes, recipe.class_names) == (5, tuple(synthetic.CLASS_NAMES))


def test_records_without_names_have_a_number_of_classes(data, tmp_path):
    from keras_exfuse.cli.train import _recipe
    from keras_exfuse.data import open_source, write_records

    examples = dataclasses.replace(open_source(data)["train"], class_names=None)
    write_records(examples, tmp_path / "none" / "train", num_classes=5)
    write_records(examples, tmp_path / "few" / "train", num_classes=5, class_names=["ground", "circle"])
    for name in ("none", "few"):
        recipe = _recipe(None, None, {"data": str(tmp_path / name)}, None)
        assert (recipe.num_classes, recipe.class_names) == (5, ())
    recipe = _recipe(None, None, {"data": str(tmp_path / "none")}, "a,b,c,d,e")
    assert (recipe.num_classes, recipe.class_names) == (5, ("a", "b", "c", "d", "e"))


def test_a_resumed_run_keeps_its_classes(tmp_path):
    """Begun from Python, without names, where the command line would have found some."""
    import json

    from keras_exfuse.cli.train import _recipe
    from keras_exfuse.training import Recipe

    recipe = Recipe(data=str(tmp_path), steps=4, num_classes=2)
    (tmp_path / "classes.txt").write_text("ground\nleaf\n")
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe.to_dict()}))
    assert _recipe(None, tmp_path, {}, None) == recipe


def test_resume(command, data, tmp_path):
    import json

    from keras_exfuse.cli.train import _recipe
    from keras_exfuse.training import Recipe

    code, _, err = command("train", "--resume", "--output", tmp_path)
    assert code == 2 and "holds no unfinished run: there is no run.json" in err
    recipe = Recipe(data=str(data), steps=4, num_classes=5, class_names=synthetic.CLASS_NAMES, seed=9)
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe.to_dict()}))
    assert _recipe(None, tmp_path, {}, None) == recipe
    (tmp_path / "last.keras").touch()
    code, _, err = command("train", "--resume", "--output", tmp_path, "--seed", 8)
    assert code == 2 and "seed was 9, is 8" in err
    code, _, err = command("train", "--resume", "--output", tmp_path, "--recipe", "mine.toml")
    assert code == 2 and "leave --recipe out" in err
    (tmp_path / "model.keras").touch()
    code, _, err = command("train", "--resume", "--output", tmp_path)
    assert code == 2 and "its run is finished" in err


def test_train_does_not_touch_a_folder_of_something_else(command, data, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = command("train", "--data", data, "--output", tmp_path, "--steps", 1)
    assert code == 2 and "not empty and holds no run" in err
    assert command("demo", "--output", tmp_path)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--split", "test"], "unknown split 'test'"),
        (["--classes", "0,7"], "within 0..4"),
        (["--classes", "cat"], "numbers with commas"),
        (["--model", "nowhere.keras"], "no model at nowhere.keras"),
        (["--model", "exfuse.onnx"], "no exported model at exfuse.onnx"),
        (["--scales", "0"], "positive"),
    ],
)
def test_evaluate(command, data, model_folder, arguments, text):
    options = {"--data": data, "--model": model_folder} | dict(
        zip(arguments[::2], arguments[1::2], strict=True)
    )
    code, _, err = command("evaluate", *[part for option in options.items() for part in option])
    assert code == 2
    assert text in err


def test_a_model_with_fewer_classes_than_the_masks(command, data, tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
    model.save(tmp_path / "small.keras")
    code, _, err = command("evaluate", "--model", tmp_path / "small.keras", "--data", data)
    assert code == 2 and "the model has 3 classes" in err


def test_files_that_are_no_segmentation_model(command, data, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    (tmp_path / "model.weights.h5").write_text("")
    for name, text in (
        ("text.keras", "cannot be read as a Keras model"),
        ("dense.keras", "no segmentation model"),
        ("model.weights.h5", "ends in .keras"),
    ):
        code, _, err = command("evaluate", "--model", tmp_path / name, "--data", data)
        assert code == 2 and text in err


def test_predict_finds_nothing(command, model_folder, tmp_path):
    for what, text in ((tmp_path, "no image"), (tmp_path / "*.jpg", "no file, folder or match")):
        code, _, err = command("predict", what, "--model", model_folder, "--output", tmp_path / "output")
        assert code == 2 and text in err


def test_missing_typer_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "typer", None)
    assert cli.run(["--help"]) == 1
    assert "pip install 'keras-exfuse[cli]'" in capsys.readouterr().err


def test_interrupted_run_goes_on_only_with_the_same_recipe(command, data, tmp_path):
    """Without training: the folder looks as an interrupted run leaves it."""
    import json

    from keras_exfuse.training import Recipe
    from keras_exfuse.training.run import check_directory

    recipe = Recipe(data=str(data), steps=4, num_classes=5, class_names=synthetic.CLASS_NAMES)
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe.to_dict()}))
    check_directory(dataclasses.replace(recipe, steps=5), tmp_path)  # Nothing would be lost.
    (tmp_path / "last.keras").touch()
    check_directory(recipe, tmp_path)
    code, _, err = command("train", "--data", data, "--output", tmp_path, "--steps", 5, "--backbone", "tiny")
    assert code == 2 and "steps was 4, is 5" in err
