"""A model that `keras_exfuse.export` wrote, run by its own engine."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_exfuse._optional import require

Label = Callable[[np.ndarray], np.ndarray]


class ExportedModel:
    """Labels of images from an exported file: OpenVINO, ONNX Runtime, LiteRT or a SavedModel, no Keras model.

    Give it to `keras_exfuse.Predictor`, which reads files and folders, or call it with batches. It gives labels only:
    averaging over scales, flipping, windows and probabilities need the Keras model. Several threads may call it at
    once.

    Args:
        path: What an exporter wrote: a file that ends in `.xml` (OpenVINO, the `.bin` beside it), `.onnx` or `.tflite`,
            or the folder of a SavedModel.
        precision: `None` leaves it to the engine: OpenVINO computes in bfloat16 where the CPU has it, faster, and
            about one label in a hundred is another (`benchmarks/inference/runtimes.py`). `"float32"` forbids it that;
            the other engines compute as the file says, int8 included.

    Attributes:
        class_names: A tuple of strings: those in a SavedModel, or in a file `classes.txt` beside another format, one
            on each line; empty if there are none.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is nothing that an exporter wrote, or `precision` is none of the two.
        ImportError: If the engine is not installed; the text names the extra.

    Example:
    >>> import keras_exfuse
    >>> network = keras_exfuse.ExportedModel("exfuse.xml")  # doctest: +SKIP
    >>> labels = keras_exfuse.Predictor(network)("photo.jpg")  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], precision: str | None = None):
        if precision not in (None, "float32"):
            raise ValueError(f'`precision` must be None or "float32", got {precision!r}.')
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"There is no exported model at {self.path}.")
        if not is_exported(self.path):
            raise ValueError(
                f"{self.path} is no exported model: expected a file that ends in {', '.join(ENGINES)}, or the folder "
                "of a SavedModel."
            )
        engine = ENGINES.get(self.path.suffix, _savedmodel)
        try:
            self._label = engine(self.path, precision)
        except ImportError:
            raise  # Says which extra to install.
        except Exception as error:  # Each engine raises whatever its reader stumbles over.
            raise ValueError(
                f"{self.path} cannot be read as a model that keras_exfuse.export wrote, with `images` to `labels`: "
                f"{error}"
            ) from error
        self.class_names = _class_names(self.path)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Label a batch of images.

        Args:
            images: uint8 (B, H, W, 3), RGB 0..255, of any size.

        Returns:
            Labels (B, H, W), uint8, or uint16 above 255 classes.

        Raises:
            ValueError: If `images` has another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
            raise ValueError(
                f"An exported model takes uint8 images (B, H, W, 3), got {images.dtype} of shape {images.shape}."
            )
        return np.asarray(self._label(np.ascontiguousarray(images)))


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path looks like what an exporter wrote."""
    path = Path(path)
    return (path / "saved_model.pb").is_file() if path.is_dir() else path.suffix in ENGINES


def _class_names(path: Path) -> tuple[str, ...]:
    if path.is_dir():
        classes = json.loads((path / "assets" / "classes.json").read_text(encoding="utf-8"))
        return tuple(each["name"] for each in classes)
    file = path.with_name("classes.txt")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return tuple(line.strip() for line in lines if line.strip())


# === Engines: from a file to a function from `images` to `labels` ===


def _openvino(path: Path, precision: str | None) -> Label:
    openvino = require("openvino", extra="openvino")
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    compiled.input("images"), compiled.output("labels")  # Another network has other names: said now.
    requests = threading.local()

    def label(images: np.ndarray) -> np.ndarray:
        # One request per thread: a request that is running refuses another call.
        if not hasattr(requests, "request"):
            requests.request = compiled.create_infer_request()
        # A copy: the runtime writes the next result into the same memory.
        return requests.request.infer({"images": images})["labels"].copy()

    return label


def _onnx(path: Path, precision: str | None) -> Label:
    onnxruntime = require("onnxruntime", extra="onnx")
    session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    _check_names([each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()])
    return lambda images: session.run(["labels"], {"images": images})[0]


def _litert(path: Path, precision: str | None) -> Label:
    interpreters = require("ai_edge_litert.interpreter", extra="litert")
    interpreter = interpreters.Interpreter(str(path), num_threads=os.cpu_count())
    # The converter keeps the names only in the file's signature, if at all: here the numbers of each are enough.
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    one_at_a_time = threading.Lock()  # It has one set of tensors, and computes on all cores by itself.

    def label(images: np.ndarray) -> np.ndarray:
        with one_at_a_time:
            if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
                interpreter.resize_tensor_input(given["index"], images.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(result["index"]).copy()

    return label


def _savedmodel(path: Path, precision: str | None) -> Label:
    tf = require("tensorflow", extra="export")
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    _check_names(signature.structured_input_signature[1], signature.structured_outputs)

    def label(images: np.ndarray) -> np.ndarray:
        assert loaded is not None  # Its functions need the object to stay.
        return signature(images=tf.constant(images))["labels"].numpy()

    return label


def _check_names(inputs, outputs) -> None:
    if list(inputs) != ["images"] or "labels" not in outputs:
        raise ValueError(f"it has inputs {list(inputs)} and outputs {list(outputs)}")


ENGINES: dict[str, Callable[[Path, str | None], Label]] = {
    ".xml": _openvino,
    ".onnx": _onnx,
    ".tflite": _litert,
}
