"""The examples of docstrings and of the README run."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import numpy as np
import pytest

import keras_exfuse

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_exfuse.__path__, "keras_exfuse.")
    if "voc_segmentation" not in module.name  # A data set builder: importing it registers it.
)


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    namespace = {**vars(module), "np": np}
    results = doctest.testmod(
        module, extraglobs=namespace, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert not results.failed


@pytest.mark.backend_independent
def test_every_public_object_has_a_docstring_with_an_example():
    for name in ("ExFuse", "GCN", "Predictor", "SemanticSupervisionClassifier", "export_savedmodel"):
        assert ">>>" in (getattr(keras_exfuse, name).__doc__ or ""), name
    for kind in (keras_exfuse.layers, keras_exfuse.losses, keras_exfuse.metrics):
        for name in getattr(kind, "__all__", [name for name in vars(kind) if name[0].isupper()]):
            if not isinstance(getattr(kind, name), type):
                continue
            assert ">>>" in getattr(kind, name).__doc__, name


def readme_blocks():
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.backend_independent
def test_readme_examples(tmp_path, monkeypatch):
    """As written, except for what takes time: smaller crops, one short eager epoch, random weights."""
    image_module = pytest.importorskip("PIL.Image", reason="the images are written by pillow")
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for folder, shape, most in (("train", (64, 80, 3), 256), ("trainannot", (64, 80), 12)):
        (tmp_path / "CamVid" / folder).mkdir(parents=True)
        for name in ("one", "two"):
            values = generator.integers(0, most, shape, dtype="uint8")
            image_module.fromarray(values).save(tmp_path / "CamVid" / folder / f"{name}.png")
    preset, training, export, serving = readme_blocks()
    smaller = {
        "crop_size=256": "crop_size=64",
        "batch_size=8": "batch_size=2",
        "epochs=20": "epochs=1, verbose=0",
        ', backbone_weights="imagenet"': "",
        "AdamW(5e-4))": "AdamW(5e-4), run_eagerly=True)",  # Tracing its step takes ten times as long as taking it.
    }
    for long, short in smaller.items():
        assert long in training
        training = training.replace(long, short)
    namespace = {"images": np.zeros((1, 33, 47, 3), "uint8")}
    image_module.fromarray(values).convert("RGB").save(tmp_path / "photo.jpg")
    exec(compile(preset, "README.md", "exec"), namespace)
    assert namespace["labels"].shape == (64, 80)
    exec(compile(training, "README.md", "exec"), namespace)  # The README is ours.
    assert namespace["labels"].shape == (64, 80)
    assert (tmp_path / "camvid.keras").exists()
    exec(compile(export, "README.md", "exec"), namespace)
    import tensorflow as tf

    exec(compile(serving, "README.md", "exec"), {**namespace, "tf": tf})
