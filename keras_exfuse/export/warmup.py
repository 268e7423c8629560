"""Warm-up requests: TensorFlow Serving runs them when it loads a model, so that no client waits for the first."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._optional import require

#: Where TensorFlow Serving looks, below the folder of a version.
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
SIDES = ((64, 64), (96, 128))


def write_warmup_requests(folder: Path, max_pixels: int) -> None:
    """Write a TFRecord of one `PredictionLog` a request: each signature, at two sizes.

    Args:
        folder: The folder of a version. The model's name in the requests is that of the folder above: the
            server puts its own in its place.
        max_pixels: The model's own bound; requests keep to it.
    """
    tf = require("tensorflow", extra="export")
    logs = require("tensorflow_serving.apis.prediction_log_pb2", extra="export")
    file = folder / WARMUP_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as records:
        for signature, inputs in _requests(tf, max_pixels):
            log = logs.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = folder.parent.name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            records.write(log.SerializeToString())


def _requests(tf: Any, max_pixels: int):
    for height, width in SIDES:
        if 2 * height * width > max_pixels:  # Two files go together.
            height = width = 32
        image = np.full((height, width, 3), 128, "uint8")
        for signature in ("serving_default", "scores"):
            yield signature, {"images": image[None]}
        files = [tf.io.encode_jpeg(image).numpy(), tf.io.encode_png(image).numpy()]
        files = files[: max_pixels // (height * width)]
        for signature in ("encoded", "encoded_bytes"):
            yield signature, {"encoded": np.array(files, object)}
