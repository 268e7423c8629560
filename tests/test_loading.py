"""What a name or a path means as a model: one thing, with the names of its classes and no guessed ones."""

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_exfuse
from keras_exfuse import GCN, ExFuse, SemanticSupervisionClassifier, presets
from keras_exfuse.loading import load, read_network, run_model
from keras_exfuse.presets.card import make_card, read_card, save_with_card
from keras_exfuse.training.model import take_weights
from tests.helpers import as_numpy, draw_weights, tiny_backbone

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
PRESET = "exfuse_efficientnet_lite0.voc2012_animals"
NAMES = ("ground", "leaf", "stem")


def pixelwise(classes=3, seed=0):
    """A small model whose weights tell it from another."""
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(classes, 1)])
    return draw_weights(model, seed)


def kernel(model):
    return as_numpy(model.weights[0])


@pytest.fixture
def run(tmp_path):
    """A finished run with validation: two models, of which one is the run's."""
    directory = tmp_path / "run"
    for seed, name in enumerate(("best.keras", "model.keras")):
        save_with_card(pixelwise(seed=seed), directory / name, make_card(NAMES))
    (directory / "run.json").write_text('{"model": "best.keras"}')
    return directory


def test_a_run_means_one_model(run):
    model = load(run)
    assert model.class_names == NAMES
    np.testing.assert_array_equal(kernel(model), kernel(pixelwise(seed=0)))
    np.testing.assert_array_equal(kernel(load(str(run / "model.keras"))), kernel(pixelwise(seed=1)))
    (run / "run.json").write_text('{"model": "model.keras"}')
    assert run_model(run) == run / "model.keras"


def test_a_run_that_has_not_finished_or_lost_its_model(run):
    (run / "best.keras").rename(run / "elsewhere.keras")
    with pytest.raises(
        ValueError, match=re.escape(f"{run / 'best.keras'}, the model of the run in {run}, is missing")
    ):
        load(run)
    (run / "model.keras").unlink()
    with pytest.raises(
        ValueError, match=r"has not finished.*Repeat its command, or name the file.*best\.keras"
    ):
        load(run)


def test_names_travel_with_the_file(run, tmp_path):
    moved = (run / "best.keras").rename(tmp_path / "moved.keras")
    assert load(moved).class_names == NAMES
    assert read_card(moved) == {
        "version": keras_exfuse.__version__,
        "class_names": list(NAMES),
        "score": None,
    }


def test_no_names_are_guessed(run):
    """Neither VOC's for 21 classes, nor those of a run for another file in its directory."""
    pixelwise(21).save(run / "other.keras")
    assert load(run / "other.keras").class_names == tuple(f"class {label}" for label in range(21))
    pixelwise(3).save(run / "another.keras")
    assert load(run / "another.keras").class_names == ("class 0", "class 1", "class 2")


def test_names_of_another_number_of_classes(tmp_path):
    file = save_with_card(pixelwise(2), tmp_path / "model.keras", make_card(NAMES))
    with pytest.raises(ValueError, match="is damaged: it has 2 classes and names for 3"):
        load(file)


def test_a_preset_by_name_and_by_directory(tmp_path):
    model = keras_exfuse.load(PRESET)
    assert model.class_names == keras_exfuse.data.VOC_CLASSES
    assert ExFuse.from_preset(PRESET, num_classes=3).output_shape[-1] == 3
    small = ExFuse(3, backbone=tiny_backbone(), kernel_size=3)
    assert load(presets.save_preset(small, tmp_path / "unnamed")).class_names == (
        "class 0",
        "class 1",
        "class 2",
    )
    small.class_names = NAMES
    score = {"data": "leaves, val", "images": 2, "mean_iou": 0.5}
    directory = presets.save_preset(small, tmp_path / "named", score=score)
    again = load(directory)
    assert again.class_names == NAMES
    np.testing.assert_array_equal(kernel(again), kernel(small))
    _, description = presets.read_description(directory)
    assert description["score"] == score and description["version"] == keras_exfuse.__version__


def test_a_preset_is_of_the_class_that_was_saved(tmp_path):
    gcn = draw_weights(GCN(3, backbone=tiny_backbone(), kernel_size=3))
    directory, images = gcn.save_to_preset(tmp_path / "gcn"), np.zeros((1, 32, 64, 3), "float32")
    for again in (load(directory), ExFuse.from_preset(directory), GCN.from_preset(directory)):
        assert type(again) is GCN
        np.testing.assert_allclose(as_numpy(again(images)), as_numpy(gcn(images)), atol=1e-6)
    assert type(ExFuse.from_preset(directory, num_classes=4)) is GCN
    with pytest.raises(ValueError, match=r"is a keras_exfuse>ExFuse, and GCN\.from_preset was called"):
        GCN.from_preset(PRESET)


@pytest.mark.backend_independent
def test_the_preset_has_the_score_that_was_measured():
    """The rounded weights are this row's: the mean of two runs."""
    directory, description = presets.read_description(PRESET)
    with (RESULTS / "voc2012_animals_lite0.cpu-2cores.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["run"] == "voc2012_animals_lite0_average"]
    score = description["score"]
    assert score.pop("data") == "VOC 2012 animal-biased subset, val"
    assert " ".join(str(label) for label in score.pop("classes")) == row["chosen_classes"]
    names = {"images": "images", "mean_iou": "mean_iou", "mean_iou_of_classes": "mean_iou_chosen"}
    names["pixel_accuracy"] = "pixel_accuracy"
    assert score == {name: pytest.approx(float(row[column]), abs=1e-6) for name, column in names.items()}
    card = (directory / "README.md").read_text()
    means = f"{score['mean_iou_of_classes']:.3f} over the seven classes that the subset covers, {score['mean_iou']:.3f}"
    assert f"Mean IoU {means} over 21; pixel accuracy {score['pixel_accuracy']:.3f}." in card


def test_init_from_takes_the_same_model(run):
    model = pixelwise(seed=5)
    take_weights(str(run), model, lambda line: None)
    np.testing.assert_array_equal(kernel(model), kernel(load(run)))


def test_other_networks_are_read_but_are_no_segmentation_models(tmp_path):
    file = tmp_path / "classifier.keras"
    SemanticSupervisionClassifier(num_classes=3, backbone=tiny_backbone(), head_units=8).save(file)
    assert isinstance(read_network(file), SemanticSupervisionClassifier)
    with pytest.raises(
        ValueError, match=r"is no segmentation model: its output has shape .*expected \(B, H, W"
    ):
        load(file)


@pytest.mark.backend_independent
def test_mistakes_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=f"no model at exfuse_x.*directory of a finished run.*{PRESET}"):
        load("exfuse_x")
    with pytest.raises(ValueError, match=f"Did you mean '{PRESET}'"):
        load("exfuse_efficientnet_lite0")
    with pytest.raises(ValueError, match="There is no model at .*Expected a .keras file"):
        load(tmp_path)
    (tmp_path / "model.weights.h5").write_text("")
    with pytest.raises(ValueError, match=r"ends in \.keras.*A file of weights alone"):
        load(tmp_path / "model.weights.h5")
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match="cannot be read as a Keras model: its 8 bytes are no zip archive"):
        load(tmp_path / "text.keras")
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(ValueError, match="is an exported model: it gives labels only"):
        read_network(tmp_path / "model.onnx")


@pytest.mark.backend_independent
def test_a_truncated_or_flipped_file_is_named(tmp_path):
    file = tmp_path / "model.keras"
    pixelwise().save(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for read in (load, lambda path: keras_exfuse.transfer_weights(path, pixelwise())):
        with pytest.raises(ValueError, match=r"model\.keras cannot .*its end is missing\. Copy it again\."):
            read(file)
    middle = whole.index(b"model.weights.h5") + 2000  # Inside its content.
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"model\.keras cannot be read as a Keras model: Bad CRC-32"):
        load(file)


@pytest.mark.backend_independent
def test_code_in_a_file_is_refused_in_our_words(tmp_path):
    """Keras's own text says how to switch the check off."""
    file = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Lambda(lambda x: x * 2)]).save(file)
    with pytest.raises(ValueError, match=r"lambda\.keras holds Python code.*was not run") as caught:
        load(file)
    assert "safe_mode" not in str(caught.value)


@pytest.mark.backend_independent
def test_a_run_with_a_damaged_record_is_named(run):
    (run / "run.json").write_text('{"model": "be')
    with pytest.raises(ValueError, match=r"run\.json is damaged, or no JSON file"):
        load(run)


@pytest.mark.backend_independent
def test_exported_models_bring_the_names_that_were_written_with_them(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed (extra: openvino)")
    pytest.importorskip("tensorflow", reason="tensorflow is not installed (extra: export)")
    from keras_exfuse import export

    model = pixelwise()
    model.class_names = NAMES
    assert load(export.export_savedmodel(model, tmp_path / "saved" / "1")).class_names == NAMES
    file = export.export_openvino(model, tmp_path / "model.xml")
    assert load(file).class_names == ()
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    assert load(file).class_names == NAMES
    image = np.zeros((1, 32, 40, 3), "uint8")
    assert load(file)(image).shape == (1, 32, 40)


@pytest.mark.backend_independent
def test_the_shipped_description_is_complete():
    for name in presets.preset_names():
        description = json.loads((presets.DIRECTORY / name / "config.json").read_text())
        assert set(description) == {"version", "class_names", "score", "class", "config"}
