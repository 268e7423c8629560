"""Runs an exported file by its own engine, in a process that has neither Keras nor this package.

Imported, `run` labels batches in such a process, and `Timed` keeps one to be timed. As a program:

    python engines.py FORMAT FILE IMAGES.npz RESULTS.npz    labels every batch
    python engines.py FORMAT FILE IMAGES.npz -              labels the batch named on each line that it reads,
                                                              and answers with the seconds that it took
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def run(format_name, file, batches, folder):
    """Labels of each batch by the engine of a format.

    Args:
        format_name: "savedmodel", "onnx", "openvino" or "litert".
        file: What was exported.
        batches: Name to uint8 images (B, H, W, 3).
        folder: For files in between.

    Returns:
        Name to labels (B, H, W).
    """
    given, results = Path(folder) / "images.npz", Path(folder) / f"{format_name}.npz"
    np.savez(given, **batches)
    command = [sys.executable, __file__, format_name, str(file), str(given), str(results)]
    answer = subprocess.run(command, env=_environment(), capture_output=True, text=True, cwd=folder)
    if answer.returncode:
        raise AssertionError(f"{format_name} failed:\n{answer.stderr}")
    with np.load(results) as arrays:
        return {name: arrays[name] for name in batches}


class Timed:
    """A process that is timed batch by batch, so that several can take turns.

    Args:
        format_name, file, batches, folder: As in `run`.
    """

    def __init__(self, format_name, file, batches, folder):
        given = Path(folder) / "timed.npz"
        np.savez(given, **batches)
        command = [sys.executable, __file__, format_name, str(file), str(given), "-"]
        self.process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def seconds(self, name):
        """How long the batch of this name takes now."""
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("seconds "):
            if not line:
                raise RuntimeError("the engine's process ended")
        return float(line.split()[1])

    def stop(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(30)


def _environment():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}


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

    # Its default computes in bfloat16 where the CPU has it.
    compiled = Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled({"images": images})["labels"]


def openvino_default(file):
    """In the precision that it chooses for the CPU."""
    from openvino import Core

    compiled = Core().compile_model(file, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
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


def main(format_name, file, given, results):
    # Not even by accident: an import of either is an error from here on.
    sys.modules["keras"] = sys.modules["keras_exfuse"] = None
    label = {"savedmodel": savedmodel, "onnx": onnx, "openvino": openvino, "litert": litert}[format_name](
        file
    )
    with np.load(given) as arrays:
        batches = {name: arrays[name] for name in arrays.files}
    if results == "-":
        for line in sys.stdin:
            start = time.perf_counter()
            label(batches[line.strip()])
            print("seconds", time.perf_counter() - start, flush=True)
        return
    answers = {name: label(images) for name, images in batches.items()}
    tops = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    assert not tops & {"keras", "keras_exfuse"}, tops
    np.savez(results, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
