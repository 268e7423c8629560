"""Runs an exported file by its own engine, in a process that has neither Keras nor this package.

Imported, `run` starts that process. As a program: `python engines.py FORMAT FILE PICTURES.npz RESULTS.npz
REPEATS`; it labels every batch, and writes labels and the median of the seconds that each took.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def run(format_name, file, batches, folder, repeats=0):
    """Labels of each batch by the engine of a format.

    Args:
        format_name: "savedmodel", "onnx", "openvino" or "litert".
        file: What was exported.
        batches: Name to uint8 pictures (B, H, W, 3).
        folder: For files in between.
        repeats: How often each batch is timed.

    Returns:
        Name to labels (B, H, W), and name to the median of the seconds (nan without repeats).
    """
    given, results = Path(folder) / "pictures.npz", Path(folder) / f"{format_name}.npz"
    np.savez(given, **batches)
    command = [sys.executable, __file__, format_name, str(file), str(given), str(results), str(repeats)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    if answer.returncode:
        raise AssertionError(f"{format_name} failed:\n{answer.stderr}")
    with np.load(results) as arrays:
        labels = {name: arrays[f"{name}/labels"] for name in batches}
        return labels, {name: float(arrays[f"{name}/seconds"]) for name in batches}


# === In the process of the engine ===


def savedmodel(file):
    import tensorflow as tf

    loaded = tf.saved_model.load(file)
    signature = loaded.signatures["serving_default"]

    def label(images):
        assert loaded is not None  # Its functions need the object to stay.
        return signature(images=tf.constant(images))["labels"].numpy()

    return label


def onnx(file):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["labels"], {"images": images})[0]


def openvino(file):
    from openvino import Core

    # Its default computes in bfloat16 where the processor has it.
    compiled = Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled({"images": images})["labels"]


def litert(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=os.cpu_count())
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def label(images):
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"]).copy()

    return label


def main(format_name, file, given, results, repeats):
    # Not even by accident: an import of either is an error from here on.
    sys.modules["keras"] = sys.modules["keras_exfuse"] = None
    label = {"savedmodel": savedmodel, "onnx": onnx, "openvino": openvino, "litert": litert}[format_name](
        file
    )
    answers = {}
    with np.load(given) as batches:
        for name in batches.files:
            images, seconds = batches[name], []
            answers[f"{name}/labels"] = label(images)
            for _ in range(int(repeats)):
                start = time.perf_counter()
                label(images)
                seconds.append(time.perf_counter() - start)
            answers[f"{name}/seconds"] = statistics.median(seconds) if seconds else np.nan
    tops = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    assert not tops & {"keras", "keras_exfuse"}, tops
    np.savez(results, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
