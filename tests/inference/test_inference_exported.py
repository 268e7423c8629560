"""Exported files in their own engines behind the Predictor, against the Keras model that they were written from."""

import concurrent.futures

import numpy as np
import pytest
from PIL import Image

from keras_exfuse import ExportedModel, Predictor, export
from tests.export import export_images

pytestmark = pytest.mark.backend_independent
EXPORTERS = {
    # name: (exporter, what it writes, converter, engine)
    "openvino": (export.export_openvino, "exfuse.xml", "openvino", "openvino"),
    "onnx": (export.export_onnx, "exfuse.onnx", "tf2onnx", "onnxruntime"),
    "litert": (export.export_litert, "exfuse.tflite", "tensorflow", "ai_edge_litert"),
    "savedmodel": (export.export_savedmodel, "1", "tensorflow_serving", "tensorflow"),
}


@pytest.fixture(scope="module")
def model():
    return export_images.tiny_model()


@pytest.fixture(scope="module")
def file(request, model, tmp_path_factory):
    exporter, name, *modules = EXPORTERS[request.param]
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is missing: install the extra `{request.param}`")
    return exporter(model, tmp_path_factory.mktemp(request.param) / name)


@pytest.mark.parametrize("file", EXPORTERS, indirect=True)
def test_the_predictor_runs_it_like_the_model(file, model, tmp_path):
    image = export_images.real_image()
    several = [image[:33, :47], image[:64, :96], image[-64:, -96:], image]
    for number, each in enumerate(several):
        Image.fromarray(each).save(tmp_path / f"{number}.png")
    ours = Predictor(ExportedModel(file, precision="float32"))
    for labels, expected in zip(ours(tmp_path), Predictor(model)(several), strict=True):
        assert labels.shape == expected.shape and labels.dtype == "uint8"
        assert np.mean(labels == expected) > 0.999 and len(np.unique(labels)) > 2


@pytest.mark.parametrize("file", ["openvino"], indirect=True)
def test_what_it_cannot_do_is_said(file, model):
    network = ExportedModel(file)
    predictor = Predictor(network)
    for options in ({"scales": (0.5, 1)}, {"flip": True}, {"window": 64}):
        with pytest.raises(ValueError, match=r"An exported model gives labels, .* use the Keras model"):
            Predictor(network, **options)
    with pytest.raises(ValueError, match="labels only: probabilities need the Keras model"):
        predictor(export_images.real_image(), probabilities=True)
    with pytest.raises(ValueError, match=r"takes uint8 images \(B, H, W, 3\), got float32 of shape"):
        predictor(export_images.real_image().astype("float32"))
    with pytest.raises(ValueError, match=r"got uint8 of shape \(0, 32, 32, 3\)"):
        network(np.zeros((0, 32, 32, 3), "uint8"))
    with pytest.raises(ValueError, match='`precision` must be None or "float32", got .float16'):
        ExportedModel(file, precision="float16")


@pytest.mark.parametrize("file", ["openvino"], indirect=True)
def test_results_are_not_written_over_by_the_next(file):
    network, image = ExportedModel(file), export_images.real_image()[None, :64, :96]
    first = network(image)
    kept = first.copy()
    network(image[:, :, ::-1])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("file", EXPORTERS, indirect=True)
def test_several_threads_share_it(file):
    network, image = ExportedModel(file), export_images.real_image()
    sizes = [(64, 96), (96, 64), (64, 64), (32, 96)] * 5
    batches = [image[None, :height, :width] for height, width in sizes]
    expected = [network(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for found, wanted in zip(threads.map(network, batches), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_is_no_exported_model_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no exported model at .*none.onnx"):
        ExportedModel(tmp_path / "none.onnx")
    with pytest.raises(
        ValueError, match=r"expected a file that ends in .xml, .onnx, .tflite, or the folder of"
    ):
        ExportedModel(tmp_path)
    for name, engine in (("a.xml", "openvino"), ("a.onnx", "onnxruntime"), ("a.tflite", "ai_edge_litert")):
        pytest.importorskip(engine, reason=f"{engine} is not installed")
        (tmp_path / name).write_text("no model")
        with pytest.raises(
            ValueError, match=f"{name} cannot be read as a model that keras_exfuse.export wrote"
        ):
            ExportedModel(tmp_path / name)


def test_another_network_is_refused(tmp_path):
    """Its input has another name: said when it is read, not at the first image."""
    onnx = pytest.importorskip("onnx", reason="onnx is missing: install the extra `onnx`")
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing: install the extra `onnx`")
    shape, kind = ["batch", 3], onnx.TensorProto.FLOAT
    given, result = (onnx.helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [given], [result])
    operators = [onnx.helper.make_opsetid("", 18)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=operators, ir_version=9), str(tmp_path / "other.onnx")
    )
    with pytest.raises(ValueError, match=r"it has inputs \['x'\] and outputs \['y'\]"):
        ExportedModel(tmp_path / "other.onnx")
