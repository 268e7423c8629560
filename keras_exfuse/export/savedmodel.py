"""TensorFlow SavedModel: uint8 pictures in, labels out; no Keras needed to run it.

TensorFlow writes it whatever backend trained the model: under JAX and PyTorch the model is saved, and a process
of its own loads it under TensorFlow. Weights carry over exactly, results within rounding.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from keras_exfuse._files import replace_file
from keras_exfuse._optional import require


def export_savedmodel(model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a SavedModel for TensorFlow Serving, or for `tf.saved_model.load`.

    It has two signatures, both for any batch size, height and width:

    - `serving_default`: `images` uint8 (B, H, W, 3) to `labels` uint8 (B, H, W), uint16 above 255 classes;
    - `scores`: the same to `scores` float32 (B, H, W, num_classes), probabilities.

    Args:
        model: A model from RGB 0..255 to logits, such as `ExFuse`.
        path: Folder to write. TensorFlow Serving wants a number as its last part: `serving/exfuse/1`.
        overwrite: Whether a folder that is there is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder is there already and `overwrite` is false.
        ImportError: If TensorFlow is not installed.

    Example:

    >>> import keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.export_savedmodel(model, "serving/exfuse/1")  # doctest: +SKIP
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already. Choose another version number, or pass overwrite=True.")
    if path.is_file():
        raise ValueError(f"{path} is a file; a SavedModel is a folder. Choose another name.")
    write = _write if keras.backend.backend() == "tensorflow" else _write_in_other_process
    return replace_file(path, lambda temporary: write(model, temporary))


def _write(model: keras.Model, path: Path) -> None:
    """Runs under TensorFlow."""
    tf = require("tensorflow", extra="export")
    # Only what makes logits: heads of auxiliary losses would leave their weights in the export.
    model = keras.Model(model.inputs, model.outputs)
    label_type = tf.uint8 if model.output_shape[-1] <= 255 else tf.uint16

    def labels(images):
        logits = model(tf.cast(images, tf.float32), training=False)
        return {"labels": tf.cast(tf.argmax(logits, axis=-1), label_type)}

    def scores(images):
        return {"scores": tf.nn.softmax(model(tf.cast(images, tf.float32), training=False))}

    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", labels, input_signature=signature)
    archive.add_endpoint("scores", scores, input_signature=signature)
    archive.write_out(str(path), verbose=False)


def _write_in_other_process(model: keras.Model, path: Path) -> None:
    """Runs under the other backends: a backend cannot be changed in a process that has imported Keras."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"
        model.save(saved)
        # The other process must find this very package, also where it is not installed.
        places = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": places}
        program = "from keras_exfuse.export import savedmodel; savedmodel.main()"
        command = [sys.executable, "-c", program, str(saved), str(path)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        if "No module named 'tensorflow'" in result.stderr:
            require("tensorflow", extra="export")
        raise RuntimeError(f"The export under TensorFlow failed:\n{result.stderr}")


def main() -> None:
    """The other process: reads a model from `sys.argv[1]` and writes the SavedModel to `sys.argv[2]`."""
    _write(keras.saving.load_model(sys.argv[1], compile=False), Path(sys.argv[2]))
