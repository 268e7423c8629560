"""`keras-exfuse export` in every format; what the files say is tested beside it."""

import importlib.util
import json

import keras
import pytest
from PIL import Image

from keras_exfuse import cli
from tests.export import export_images

pytestmark = pytest.mark.backend_independent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("run") / "model.keras"
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)]).save(file)
    return file


def command(capsys, *arguments):
    code = cli.run(["export", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("name", "module", "target"),
    [
        ("onnx", "tf2onnx", "exfuse.onnx"),
        ("openvino", "openvino", "exfuse.xml"),
        ("litert", "tensorflow", "exfuse.tflite"),
        ("litert-int8", "tensorflow", "exfuse.tflite"),
    ],
)
def test_a_file_of_each_format(name, module, target, model, tmp_path, capsys):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is missing: install the extra `{name}`")
    options = []
    if name == "litert-int8":
        Image.fromarray(export_images.real_image()[:64, :64]).save(tmp_path / "one.png")
        options = ["--images", tmp_path]
    code, said = command(
        capsys, "--model", model, "--format", name, "--output", tmp_path / "out" / target, *options
    )
    assert code == 0, said
    assert (tmp_path / "out" / target).stat().st_size > 100 and "labels (B, H, W)" in said


def test_a_savedmodel_with_its_options(model, tmp_path, capsys):
    target = tmp_path / "exfuse" / "1"
    options = ["--class-names", "ground,leaf,stem", "--max-pixels", 5000, "--no-fuse"]
    code, said = command(capsys, "--model", model, "--output", target, *options)
    assert code == 0 and "labels_png" in said and "tensorflow_model_server" in said
    classes = json.loads((target / "assets" / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == ["ground", "leaf", "stem"]
    code, said = command(capsys, "--model", model, "--output", target)
    assert code == 2 and "--overwrite" in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--format", "litert-int8"], "needs --images"),
        (["--format", "onnx", "--images", "."], "--images is for litert-int8 only"),
        (["--format", "onnx", "--max-pixels", "5000"], "for savedmodel only"),
        (["--format", "onnx"], "expected a file name that ends in .onnx"),
    ],
)
def test_mistakes_are_told(options, text, model, tmp_path, capsys):
    code, said = command(capsys, "--model", model, "--output", tmp_path / "exfuse", *options)
    assert code == 2 and text in said
    assert not list(tmp_path.iterdir())
