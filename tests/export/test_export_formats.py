"""ONNX, OpenVINO and LiteRT, each run by its own engine without Keras, against the Predictor."""

import keras
import numpy as np
import pytest

from keras_exfuse import export
from keras_exfuse._kernels.forms import patches
from keras_exfuse.backbones.efficientnet_lite import SamePadding
from keras_exfuse.export.labelling import halves_evenly, label_module, model_to_export
from keras_exfuse.inference import Predictor
from tests.export import engines, export_images

pytestmark = pytest.mark.backend_independent
SIZES = ((33, 47), (64, 96), (300, 451))
FORMATS = {
    # name: (exporter, ending, converter, engine)
    "onnx": (export.export_onnx, "onnx", "tf2onnx", "onnxruntime"),
    "openvino": (export.export_openvino, "xml", "openvino", "openvino"),
    "litert": (export.export_litert, "tflite", "tensorflow", "ai_edge_litert"),
}


@pytest.fixture(scope="module")
def model():
    return export_images.tiny_model()


@pytest.fixture(scope="module")
def batches():
    """Parts of a photograph in three sizes; a batch of two where they are small."""
    image = export_images.real_image()
    return {f"{h}x{w}": np.stack([image[:h, :w], image[-h:, -w:]]) for h, w in SIZES}


def export_or_skip(name, model, folder):
    exporter, ending, converter, engine = FORMATS[name]
    for module in (converter, engine):
        pytest.importorskip(module, reason=f"{module} is missing: install the extra `{name}`")
    return exporter(model, folder / f"exfuse.{ending}")


@pytest.mark.parametrize("name", FORMATS)
def test_labels_are_those_of_the_model_at_any_size(name, model, batches, tmp_path):
    file = export_or_skip(name, model, tmp_path)
    labels = engines.run(name, file, batches, tmp_path)
    for size, images in batches.items():
        expected = Predictor(model)(images)
        assert labels[size].dtype == "uint8" and labels[size].shape == expected.shape
        assert np.mean(labels[size] == expected) > 0.999, size
        assert len(np.unique(expected)) > 2


def test_litert_converts_what_stands_behind_a_padding_of_unknown_size(batches, tmp_path):
    """EfficientNet-Lite's; the converter refuses a convolution whose channels it does not know."""
    pytest.importorskip("ai_edge_litert", reason="ai_edge_litert is missing: install the extra `litert`")
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2)(SamePadding(3)(image))
    x = keras.layers.DepthwiseConv2D(5, strides=2)(SamePadding(5)(x))
    model = keras.Model(image, keras.layers.Conv2DTranspose(4, 8, strides=4, padding="same")(x))
    file = export.export_litert(model, tmp_path / "exfuse.tflite")
    labels = engines.run("litert", file, batches, tmp_path)
    for size, images in batches.items():
        assert np.mean(labels[size] == Predictor(model)(images)) > 0.999, size


def test_paddings_are_fixed_where_sides_are_even_at_every_stride():
    """From multiples of 32 five halvings leave even sides; a sixth may meet an odd one."""
    pytest.importorskip("tensorflow", reason="what is converted is a TensorFlow graph")
    for halvings, even in ((5, True), (6, False)):
        image = x = keras.Input((None, None, 3))
        for _ in range(halvings):
            x = keras.layers.DepthwiseConv2D(3, strides=2)(SamePadding(3)(x))
        x = keras.layers.UpSampling2D(2**halvings)(x)
        model = model_to_export(keras.Model(image, x), fuse=True)
        assert halves_evenly(model) is even
        graph = label_module(model).labels.get_concrete_function().graph
        pads = [each for each in graph.get_operations() if each.type.startswith("Pad")]
        fixed = [each.inputs[1].op.type == "Const" for each in pads if "same_padding" in each.name]
        assert len(fixed) == halvings and all(fixed) is even


def test_int8_is_measured_on_images(model, batches, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="ai_edge_litert is missing: install the extra `litert`")
    samples = [images[0] for images in batches.values()]
    file = export.export_litert_int8(model, tmp_path / "exfuse.tflite", samples)
    labels = engines.run("litert", file, batches, tmp_path)
    for size, images in batches.items():
        # Rounding moves borders of classes; weights drawn at random have more of them than trained ones.
        assert np.mean(labels[size] == Predictor(model)(images)) > 0.9, size
    types = tensor_types(file)
    assert types.count("int8") > 50 and types.count("float32") <= 2


def test_other_engines_get_convolutions_where_tensorflow_computes_a_product(model, monkeypatch):
    pytest.importorskip("tensorflow", reason="what is converted is a TensorFlow graph")
    monkeypatch.setitem(patches.LEAST_PRODUCTS, "tensorflow", (0, 0))
    graph = label_module(model_to_export(model, fuse=True)).labels.get_concrete_function().graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in kinds and not any("MatMul" in kind for kind in kinds)


def tensor_types(file):
    from ai_edge_litert.interpreter import Interpreter

    return [np.dtype(tensor["dtype"]).name for tensor in Interpreter(str(file)).get_tensor_details()]


def test_the_formats_say_what_is_wrong(model, tmp_path):
    for name, (exporter, ending, *_) in FORMATS.items():
        with pytest.raises(ValueError, match=f"expected a file name that ends in .{ending}"):
            exporter(model, tmp_path / "exfuse.dat")
        (tmp_path / f"{name}.{ending}").touch()
        with pytest.raises(ValueError, match="there already.*overwrite=True"):
            exporter(model, tmp_path / f"{name}.{ending}")
    with pytest.raises(ValueError, match="There is no image in the folder"):
        export.export_litert_int8(model, tmp_path / "a.tflite", tmp_path)
    with pytest.raises(ValueError, match=r"uint8 arrays \(H, W, 3\), got float64"):
        export.export_litert_int8(model, tmp_path / "a.tflite", [np.zeros((4, 4, 3))])


def test_a_missing_engine_names_its_extra(model, tmp_path, monkeypatch):
    import sys

    small = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    for module, name in (("tf2onnx", "onnx"), ("openvino", "openvino")):
        monkeypatch.setitem(sys.modules, module, None)
        exporter, ending, *_ = FORMATS[name]
        with pytest.raises(ImportError, match=rf"pip install 'keras-exfuse\[{name}\]'"):
            exporter(small, tmp_path / f"exfuse.{ending}")
    assert not list(tmp_path.iterdir())
