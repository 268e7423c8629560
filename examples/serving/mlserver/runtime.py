"""An MLServer runtime over an exported SavedModel: bytes of images in, PNG files of labels out.

It needs mlserver and tensorflow, not keras nor keras_exfuse. `model-settings.json` names it and its limits;
`python serve.py` in this folder runs it.
"""

import asyncio
import functools

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.errors import InferenceError, MLServerError
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
        # The work of one request is bounded by the export's `max_pixels`; that of all by how many run at once, and
        # what they hold meanwhile by how many wait.
        limits = self.settings.parameters
        concurrent = getattr(limits, "concurrent_requests", 1)
        self._running = asyncio.Semaphore(concurrent)
        self._most_images = getattr(limits, "images_per_request", 16)
        self._most_requests = concurrent + getattr(limits, "waiting_requests", 16)
        self._requests = 0
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        files = _files(payload)
        if not 1 <= len(files) <= self._most_images:
            raise InferenceError(
                f"{len(files)} images in one request; this server takes 1 to {self._most_images}."
            )
        if self._requests >= self._most_requests:
            raise MLServerError(f"{self._requests} requests wait already. Try again later.", 503)
        self._requests += 1
        try:
            async with self._running:
                # In a thread, so that the server can accept and refuse others meanwhile.
                labels = await asyncio.to_thread(functools.partial(_run, self._label, files))
        finally:
            self._requests -= 1
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
