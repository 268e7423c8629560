"""The GPU benchmark, rehearsed: tables that grow row by row, crops without TensorFlow, checks and timings."""

import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import crops
from benchmarks.gpu import input as input_part
from benchmarks.gpu import plan as planning
from benchmarks.kernels import forms
from benchmarks.results_file import read_rows
from keras_exfuse import ExFuse, data, fuse_for_inference, layers, losses
from keras_exfuse._kernels import dispatch
from tests.helpers import random_batch, tiny_backbone

BACKEND = keras.backend.backend()
if BACKEND != "tensorflow":
    from benchmarks.gpu import correctness, device, speed

needs_a_device = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="benchmarks.gpu computes on JAX and PyTorch"
)


# === Processes and tables ===


@pytest.mark.backend_independent
def test_a_plan_survives_its_file(tmp_path):
    plan = planning.Plan(seconds=3.5, done=(("jax", "1"), ("torch", "2")))
    assert planning.read(str(plan.write(tmp_path / "plan.json"))) == plan


@pytest.mark.backend_independent
def test_a_table_has_its_rows_at_once_and_measures_what_failed_again(tmp_path, capsys):
    path = tmp_path / "gpu_speed_a.csv"
    table = gpu.Table(path, ("name",))
    table.add({"name": "a", "ms": "1", "trouble": ""})
    table.add({"name": "b", "trouble": "out of memory", "steps": 3})
    assert [row["ms"] for row in read_rows(path)] == ["1", ""]
    again = gpu.Table(path, ("name",))
    assert again.done() == (("a",),)
    again.add({"name": "b", "ms": "2", "trouble": ""})
    assert [row["ms"] for row in read_rows(path)] == ["1", "2"]
    assert "out of memory" in capsys.readouterr().out


def process(program):
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.backend_independent
def test_a_part_that_is_cut_off_leaves_its_rows():
    endless = "import time; print('row', '{\"a\": 1}', flush=True); time.sleep(60)"
    assert list(gpu.rows_of(process(endless), seconds=1)) == [{"a": 1}]


@pytest.mark.backend_independent
def test_a_part_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="ended with 3; see above"):
        list(gpu.rows_of(process("print('noise'); raise SystemExit(3)"), seconds=30))


@pytest.mark.backend_independent
def test_minutes_are_those_of_parts():
    assert gpu.minutes_of(["speed=2.5", "input=0"]) == {**gpu.MINUTES, "speed": 2.5, "input": 0}
    for word in ("speed", "speed=-1", "fast=2"):
        with pytest.raises(ValueError, match=f"expected PART=NUMBER with one of correctness, .*got '{word}'"):
            gpu.minutes_of([word])


@pytest.mark.backend_independent
def test_without_a_gpu_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        gpu.main(["--parts", "input"])
    assert "Name it with --hardware, or pass --rehearse" in capsys.readouterr().err


@pytest.mark.backend_independent
def test_the_input_part_is_rehearsed(tmp_path):
    with pytest.raises(SystemExit, match="0"):
        gpu.main(["--parts", "input", "--rehearse", "--output", str(tmp_path)])
    rows = read_rows(tmp_path / "gpu_input_rehearsal.csv")
    assert [(row["source"], row["reader"]) for row in rows] == [
        ("files", "threads"),
        ("files", "tf.data"),
        ("records, raw", "tf.data"),
        ("records, encoded", "tf.data"),
    ]
    assert all(float(row["crops_per_second"]) > 0 and not row["trouble"] for row in rows)


@pytest.mark.backend_independent
def test_crops_without_tensorflow_are_those_of_the_pipeline(tmp_path):
    examples = input_part.made_examples(tmp_path, 5)
    change = data.Augmentation(48, scale=(0.5, 2.0))
    options = {"num_classes": 21, "batch_size": 2, "augmentation": change, "shuffle": True, "seed": 7}
    expected = data.examples_dataset(examples, drop_remainder=True, start=0, **options).as_numpy_iterator()
    found = crops.crop_batches(crops.kept(crops.reader(examples, 21), 5), 5, 2, change, seed=7, threads=2)
    for ours, theirs in itertools.islice(zip(found, expected, strict=False), 5):  # More than two epochs.
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


# === Numbers ===


@needs_a_device
def test_every_layer_and_every_form_is_checked():
    public = {name for name in layers.__all__ if not name.endswith("Initializer")}
    assert public <= set(correctness.LAYERS)
    checked = {form for case in correctness.LAYERS.values() for form in case.forms}
    # Of the fused model, and TensorFlow's own.
    assert checked | {"winograd", "native_groups"} == dispatch.form_names()


@needs_a_device
@pytest.mark.parametrize("name", ["Conv2D 1x1, stride 2", "DepthwiseConv2D 3x3", "Deconvolution", "CropLike"])
def test_a_layer_by_its_forms_has_the_numbers_of_keras(name):
    case = correctness.LAYERS[name]
    with dispatch.without(*dispatch.form_names()):
        expected = correctness.layer(case, "float32")
    assert expected[1] and all(np.isfinite(each).all() for each in (expected[0], *expected[1]))
    for form in case.forms:
        if BACKEND in forms.UNDER[form]:
            with dispatch.also(form):
                found = correctness.compared(correctness.layer(case, "float32"), expected, 1e-5, 1e-5)
            assert found["good"], found


@needs_a_device
def test_wrong_numbers_are_found():
    good, nothing = np.ones((2, 3), "float32"), np.zeros(4, "float32")
    assert correctness.compared((good, [nothing]), (good, [nothing]), 1e-3, 1e-3)["good"]
    for wrong in (good * 1.01, good * np.nan, good + np.eye(2, 3, dtype="float32")):
        assert not correctness.compared((wrong, [nothing]), (good, [nothing]), 1e-3, 1)["good"]
        assert not correctness.compared((good, [good, wrong]), (good, [good, good]), 1, 1e-3)["good"]
    with pytest.raises(ValueError, match="argument"):
        correctness.compared((good, [good]), (good, [good, nothing]), 1e-3, 1e-3)


@needs_a_device
def test_programs_do_what_the_model_does():
    """The logits of `predict`, and the losses of `train_on_batch`, step by step."""
    images, masks = random_batch(num_classes=5)
    keras.utils.set_random_seed(0)
    models = [ExFuse(5, backbone=tiny_backbone()) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    program = device.inference(fuse_for_inference(models[0]), images)
    program.prepare()
    expected = models[0].predict_on_batch(images)
    np.testing.assert_allclose(device.as_float32(program.start()), expected, rtol=1e-3, atol=1e-4)
    for model in models:
        model.compile(optimizer=keras.optimizers.SGD(0.01), loss=losses.ExFuseLoss(), metrics=[])
    step = device.training(models[0], images, masks)
    step.prepare()
    # Both count the mean loss since the beginning.
    found = [float(step.start()["loss"]) for _ in range(3)]
    models[1].reset_metrics()
    assert found == pytest.approx([models[1].train_on_batch(images, masks) for _ in range(3)], rel=1e-4)
    assert found[0] != found[2]


@needs_a_device
def test_the_most_telling_rows_come_first():
    configs = speed.configs_of(planning.Plan())
    assert len(set(configs)) == len(configs)
    first = configs[0]
    assert (first.job, first.candidate, first.backbone) == ("training", "exfuse", "resnet50")
    assert (first.precision, first.batch, first.form) == ("mixed_bfloat16", 16, "")
    forced = {(each.form, each.backbone) for each in configs if each.form}
    on_resnet = {form for form in forms.UNDER if BACKEND in forms.UNDER[form]} - {
        "shifted_products",
        "blocks",
    }
    assert {form for form, backbone in forced if backbone == "resnet50"} == on_resnet
    assert (("blocks", "resnext101_lr") in forced) == (BACKEND == "jax")


@needs_a_device
def test_what_fails_is_a_row_and_the_next_one_is_measured(monkeypatch, capsys):
    configs = [
        speed.Config("inference", "exfuse", name, "float32", 1, form)
        for name, form in (("bad", ""), ("good", ""), ("good", "patches"))
    ]

    def program_of(config, size):
        if config.backbone == "bad":
            raise MemoryError("all 80 GB\nare full")
        return device.matrix_product(size, "float32"), {"gmacs": "1.0", "million_parameters": "2"}

    monkeypatch.setattr(speed, "configs_of", lambda plan: configs)
    monkeypatch.setattr(speed, "program_of", program_of)
    speed.run(planning.REHEARSAL)
    rows = [
        json.loads(line.removeprefix("row "))
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("row ")
    ]
    assert [row["trouble"] for row in rows] == ["MemoryError: all 80 GB are full", "", ""]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert rows[1]["times_plain"] == "" and float(rows[2]["times_plain"]) > 0
    assert float(rows[1]["images_per_second"]) > 0
