"""An MLServer runtime over an exported SavedModel: bytes of images in, PNG files of labels out.

It needs mlserver and tensorflow, not keras nor keras_exfuse. `model-settings.json` names it; `mlserver start .` in
this folder runs it.
"""

import asyncio
import functools

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Segmenter(MLModel):
    """Answers `encoded`, the bytes of JPEG or PNG files, with `labels_png`, a gray PNG of labels for each.

    Over HTTP the bytes travel as base64 in JSON, and over gRPC as they are or as base64; the parameter
    `content_type: base64` says which. The answer is in base64.
    """

    async def load(self) -> bool:
        self._loaded = tf.saved_model.load(await get_model_uri(self.settings))
        self._label = self._loaded.signatures["encoded"]
        # The memory of one image is bounded by the export's `max_pixels`; that of all by how many run at once.
        self._running = asyncio.Semaphore(getattr(self.settings.parameters, "concurrent_requests", 1))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        files = _files(payload)
        async with self._running:
            # In a thread, so that the server can accept and refuse others meanwhile.
            labels = await asyncio.to_thread(functools.partial(_run, self._label, files))
        output = Base64Codec.encode_output("labels_png", labels)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])


def _files(payload: InferenceRequest) -> list[bytes]:
    """The bytes of the request's files, or an error that a client can act on."""
    names = [given.name for given in payload.inputs]
    if names != ["encoded"]:
        raise InferenceError(f"Expected one input, named 'encoded'; got {names}.")
    [given] = payload.inputs
    if given.datatype != "BYTES":
        raise InferenceError(
            f"The input 'encoded' has the wrong datatype {given.datatype!r}: expected 'BYTES', the contents of JPEG "
            "or PNG files."
        )
    content_type = given.parameters.content_type if given.parameters else None
    if content_type == "base64":
        return Base64Codec.decode_input(given)
    data = given.data.root
    if not all(isinstance(content, bytes) for content in data):
        raise InferenceError("JSON cannot hold bytes: send base64, with the parameter content_type 'base64'.")
    return list(data)


def _run(label, files: list[bytes]) -> list[bytes]:
    try:
        return (
            label(encoded=tf.constant(files, tf.string, shape=(len(files),)))["labels_png"].numpy().tolist()
        )
    except tf.errors.InvalidArgumentError as error:
        raise InferenceError(_reason(str(error))) from error


def _reason(text: str) -> str:
    """The line of TensorFlow's message that says what is wrong with the image."""
    lines = [line for line in text.splitlines() if line.startswith(("assertion failed:", "Invalid"))]
    return lines[0].removeprefix("assertion failed: ") if lines else text
