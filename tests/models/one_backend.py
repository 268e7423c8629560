"""A process of one backend, for test_three_backends: a saved model's logits, gradients and a step, as `.npz`.

KERAS_BACKEND=jax python -m tests.models.one_backend model.keras batch.npz result.npz
"""

import sys

import keras
import numpy as np

import keras_exfuse  # noqa: F401, registers the model
from tests.drawing import run_model

LEARNING_RATE = 1.0


def main(model_path, batch_path, result_path):
    batch = np.load(batch_path)
    model = keras.saving.load_model(model_path)
    logits = keras.ops.convert_to_numpy(run_model(model, batch["images"]))
    # The weights' change in one step of plain descent is their gradient, in every backend's own training loop.
    model.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE), metrics=[], jit_compile=jits())
    before = {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights}
    loss = model.train_on_batch(batch["images"], batch["masks"])
    results = {"logits": logits, "loss": np.float64(loss if np.isscalar(loss) else np.ravel(loss)[0])}
    for weight in model.trainable_weights:
        step = before[weight.path] - keras.ops.convert_to_numpy(weight)
        results[f"gradient {weight.path}"] = step / LEARNING_RATE
    results["logits after the step"] = keras.ops.convert_to_numpy(run_model(model, batch["images"]))
    np.savez(result_path, **results)


def jits():
    """XLA compiles for seconds and changes nothing that is looked at here; JAX knows no other way."""
    return keras.backend.backend() == "jax"


if __name__ == "__main__":
    main(*sys.argv[1:])
