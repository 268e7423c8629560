"""What TensorFlow Serving reads and is asked: its own protocol buffers against the exported signatures.

The server itself is not on the package index; these are its messages and the same graph.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_exfuse.export import export_savedmodel
from tests.export import export_images

pytestmark = pytest.mark.backend_independent
PREDICT = "tensorflow/serving/predict"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serving" / "tensorflow_serving"
REASON = "install the extra `export`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, padding="same")])
    return export_savedmodel(model, tmp_path_factory.mktemp("serving") / "exfuse" / "1")


@pytest.fixture(scope="module")
def loaded(folder):
    import tensorflow as tf

    return tf.saved_model.load(str(folder))


def signature_definitions(folder):
    """What the server reads from the file, without loading the graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    [graph] = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    return graph.signature_def


def ask(folder, loaded, request):
    """Answer a `PredictRequest` as the server does: by the signature's definition, with its checks."""
    import tensorflow as tf

    definition = signature_definitions(folder)[request.model_spec.signature_name]
    assert definition.method_name == PREDICT
    assert set(request.inputs) == set(definition.inputs)
    inputs = {}
    for name, tensor in request.inputs.items():
        wanted = definition.inputs[name]
        assert tensor.dtype == wanted.dtype, name
        value = tf.constant(tf.make_ndarray(tensor))
        assert tf.TensorShape(wanted.tensor_shape).is_compatible_with(value.shape), name
        inputs[name] = value
    return loaded.signatures[request.model_spec.signature_name](**inputs)


def test_signatures_are_what_the_documentation_says(folder):
    import tensorflow as tf

    found = {
        name: [
            (key, tf.dtypes.as_dtype(value.dtype).name, [size.size for size in value.tensor_shape.dim])
            for key, value in (*definition.inputs.items(), *definition.outputs.items())
        ]
        for name, definition in signature_definitions(folder).items()
        if definition.method_name == PREDICT
    }
    images = ("images", "uint8", [-1, -1, -1, 3])
    assert found == {
        "serving_default": [images, ("labels", "uint8", [-1, -1, -1])],
        "scores": [images, ("scores", "float32", [-1, -1, -1, 4])],
        "encoded": [("encoded", "string", [-1]), ("labels_png", "string", [-1])],
        # The server's HTTP interface writes only outputs named like this as base64.
        "encoded_bytes": [("encoded", "string", [-1]), ("labels_png_bytes", "string", [-1])],
    }


def test_a_predict_request_is_answered(folder, loaded):
    import tensorflow as tf

    messages = pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason=REASON)
    image = export_images.real_image()[:50, :70]
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "exfuse", "encoded"
    files = np.array([export_images.as_file(image, "PNG"), export_images.as_file(image[:20], "PNG")], object)
    request.inputs["encoded"].CopyFrom(tf.make_tensor_proto(files))
    request = messages.PredictRequest.FromString(request.SerializeToString())  # Once over the wire.
    maps = [
        export_images.from_file(content) for content in ask(folder, loaded, request)["labels_png"].numpy()
    ]

    request.model_spec.signature_name = "encoded_bytes"
    again = [
        export_images.from_file(content)
        for content in ask(folder, loaded, request)["labels_png_bytes"].numpy()
    ]
    np.testing.assert_array_equal(again[0], maps[0])

    request.model_spec.signature_name = "serving_default"
    del request.inputs["encoded"]
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(image[None]))
    labels = ask(folder, loaded, request)["labels"].numpy()
    np.testing.assert_array_equal(maps[0], labels[0])
    assert maps[1].shape == (20, 70)


def test_warm_up_requests_are_read_back_and_replayed(folder, loaded):
    import tensorflow as tf

    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason=REASON)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    requests = [logs.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.signature_name for request in requests} == {
        "serving_default",
        "scores",
        "encoded",
        "encoded_bytes",
    }
    assert 1 <= len(requests) <= 1000  # The server takes no more.
    for request in requests:
        [answer] = ask(folder, loaded, request).values()
        assert len(answer) == len(tf.make_ndarray(next(iter(request.inputs.values()))))


def test_the_example_configurations_are_ones():
    from google.protobuf import text_format

    messages = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2", reason=REASON)
    server = text_format.Parse((EXAMPLE / "models.config").read_text(), messages.ModelServerConfig())
    [config] = server.model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (
        "exfuse",
        "/models/exfuse",
        "tensorflow",
    )
    compose = (EXAMPLE / "docker-compose.yaml").read_text()
    assert "NOT run in CI" in compose and "/config/models.config" in compose
