"""A model in one inference engine, as a candidate of `benchmarks.inference.runtimes` in a process of its own.

python -m benchmarks.inference.runtime_candidates prepare efficientnet_lite0 FOLDER
KERAS_BACKEND=jax python -m benchmarks.inference.runtime_candidates "JAX, fused" FOLDER
"""

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.contest import serve

# Name: function of this file, package whose version counts, file in the folder, backend, options.
ENGINES: dict[str, tuple[str, str, str, str, dict]] = {
    "Keras": ("predictor", "tensorflow", "model.keras", "tensorflow", {"fused": False}),
    "Keras, fused": ("predictor", "tensorflow", "model.keras", "tensorflow", {"fused": True}),
    "SavedModel": ("exported", "tensorflow", "savedmodel", "", {"engine": "savedmodel"}),
    "ONNX Runtime": ("exported", "onnxruntime", "model.onnx", "", {"engine": "onnx"}),
    "OpenVINO, float32": ("exported", "openvino", "model.xml", "", {"engine": "openvino"}),
    "OpenVINO, its default": ("exported", "openvino", "model.xml", "", {"engine": "openvino_default"}),
    "LiteRT": ("exported", "ai-edge-litert", "model.tflite", "", {"engine": "litert"}),
    "LiteRT, int8": ("exported", "ai-edge-litert", "int8.tflite", "", {"engine": "litert"}),
    "JAX, fused": ("predictor", "jax", "model.keras", "jax", {"fused": True}),
    "PyTorch, fused": ("predictor", "torch", "model.keras", "torch", {"fused": True}),
    "PyTorch, fused, compiled": ("compiled_torch", "torch", "model.keras", "torch", {}),
}
PRESETS = {"efficientnet_lite0": "exfuse_efficientnet_lite0.voc2012_animals"}


def predictor(file: Path, fused: bool) -> Callable[[np.ndarray], np.ndarray]:
    """`Predictor` with the model as it is, or fused, on whichever backend runs."""
    import keras

    from keras_exfuse import Predictor, fuse_for_inference

    model = keras.saving.load_model(file, compile=False)
    return Predictor(fuse_for_inference(model) if fused else model)


def compiled_torch(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The fused model through `torch.compile`, which needs a C++ compiler."""
    import keras
    import torch

    from keras_exfuse import fuse_for_inference
    from keras_exfuse.inference.predictor import Labels

    labels = Labels(fuse_for_inference(keras.saving.load_model(file, compile=False)))
    compiled = torch.compile(labels.call, dynamic=False)

    def label(images):
        with torch.inference_mode():
            return compiled(torch.from_numpy(images).float()).numpy()

    return label


def exported(file: Path, engine: str) -> Callable[[np.ndarray], np.ndarray]:
    """An exported file in its engine, with as many threads as there are cores."""
    from tests.export import engines

    return getattr(engines, engine)(str(file))


def prepare(backbone: str, folder: Path) -> None:
    """Write the model and each export, under TensorFlow; `images.npy` is there."""
    import keras

    from benchmarks.inference.fusing import draw_statistics
    from keras_exfuse import ExFuse, export

    images = np.load(folder / "images.npy")
    if backbone in PRESETS:
        model = ExFuse.from_preset(PRESETS[backbone])
    else:
        keras.utils.set_random_seed(0)
        model = ExFuse(21, backbone=backbone, decoder_init="random")
        draw_statistics(model)
    model.save(folder / "model.keras")
    export.export_savedmodel(model, folder / "savedmodel")
    export.export_onnx(model, folder / "model.onnx")
    export.export_openvino(model, folder / "model.xml")
    export.export_litert(model, folder / "model.tflite")
    export.export_litert_int8(model, folder / "int8.tflite", list(images))


def main(name: str, folder: str) -> None:
    """Make the engine ready, label all images once, and serve the first; or say why it does not work."""
    function, package, file, _, options = ENGINES[name]
    images = np.load(Path(folder) / "images.npy")
    facts = {"engine": f"{package} {version(package)}", "failed": ""}
    try:
        label = globals()[function](Path(folder) / file, **options)
        np.save(Path(folder) / f"{name}.npy", np.concatenate([label(each[None]) for each in images]))
    except Exception as error:  # An engine that does not work here is a row of the table, too.
        lines = str(error).strip().splitlines() or [""]
        serve(lambda: None, {**facts, "failed": f"{type(error).__name__}: {lines[0]}"[:200]})
        return
    serve(lambda: label(images[:1]), facts)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], Path(sys.argv[3]))
    else:
        main(*sys.argv[1:])
