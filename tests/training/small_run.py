"""A training run of seconds, with everything in it that a run can lose: in a process of its own, too.

    python -m tests.training.small_run DATA WHAT FOLDER

trains in FOLDER as WHAT says: `once`; `slowly`, to be killed; `writing`, storing slowly after every step, to be killed
while it does; `twice`, going on in FOLDER/killed and anew in FOLDER/whole; or `devices`, the same run on 1, 2 and,
under JAX, 4 devices, on several of them interrupted in an epoch.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__" and sys.argv[2:3] == ["devices"]:
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import keras

from keras_exfuse import metrics
from keras_exfuse.training import Interrupted, Recipe, checkpoints, train

EPOCHS = 4


@keras.saving.register_keras_serializable(package="keras_exfuse_tests")
class Small(keras.Model):
    """Images to logits; with batch normalisation and dropout."""

    def __init__(self, num_classes=5, batch_norm=True, dropout=0.3):
        image = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 128, offset=-1)(image)
        x = keras.layers.AveragePooling2D(8)(x)
        x = keras.layers.Conv2D(4, 3, padding="same", name="convolution")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.5)(x)
        backbone = keras.Model(image, x, name="backbone")
        x = keras.layers.Dropout(dropout)(backbone(image))
        # A transposed convolution restores the size on every backend, whatever the size.
        logits = keras.layers.Conv2DTranspose(
            num_classes, 8, strides=8, padding="same", dtype="float32", name="logits"
        )(x)
        super().__init__(image, logits)
        self.num_classes, self.backbone = num_classes, backbone

    def compile(self, **options):
        keras.Model.compile(self, **{"metrics": [metrics.MeanIoU(self.num_classes)], **options})

    def get_config(self):
        return {"num_classes": self.num_classes}


@dataclasses.dataclass(frozen=True)
class SmallRecipe(Recipe):
    """A recipe of the small model."""

    def build_model(self):
        keras.utils.set_random_seed(self.seed)
        return Small(self.num_classes)


def recipe(data, **changes):
    """Epochs that are no whole passes over the data, a schedule, two rates, an average of the weights."""
    values = {
        "data": str(data),
        "val_split": "val",
        "num_classes": 5,
        "steps": 3 * EPOCHS,
        "steps_per_epoch": 3,
        "batch_size": 2,
        "crop_size": 32,
        "learning_rate": 1e-2,
        "backbone_learning_rate": 5e-3,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "ema": 0.8,
        "deterministic": True,
        "tensorboard": False,
        "seed": 3,
    }
    return SmallRecipe(**{**values, **changes})


class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.3)


class Terminate(keras.callbacks.Callback):
    """Asks the process to stop, as a scheduler does, in a step of an epoch or in its validation."""

    def __init__(self, epoch, step=None, number=signal.SIGTERM):
        super().__init__()
        self.at, self.step, self.number = epoch, step, number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, self.params.get("steps_before", 0) + batch + 1) == (self.at, self.step):
            signal.raise_signal(self.number)

    def on_test_batch_begin(self, batch, logs=None):
        if self.epoch == self.at and self.step is None:
            signal.raise_signal(self.number)


def environment(data):
    """Variables of a process that runs this; what JAX compiled in one is there for the next."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(data.parent / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def main(data, what, folder):
    folder = Path(folder)
    if what == "once":
        train(recipe(data), folder, verbose=0)
    elif what == "slowly":
        train(recipe(data, checkpoint_every="2 steps"), folder, callbacks=[Slow()], verbose=0)
    elif what == "writing":
        replace = os.replace
        os.replace = lambda *paths: (time.sleep(0.2), replace(*paths))
        train(recipe(data, checkpoint_every="1 step"), folder, verbose=0)
    elif what == "twice":
        train(recipe(data), folder / "killed", verbose=0)
        train(recipe(data), folder / "whole", verbose=0)
    else:
        counts = (1, 2, 4) if keras.backend.backend() == "jax" else (1, 2)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        for count in counts:
            # Without what is drawn or counted by each device for itself.
            changes = {
                "devices": count,
                "deterministic": False,
                "batch_size": 4,
                "ema": None,
                "val_split": "val",
            }
            steady = Steady(**{**dataclasses.asdict(recipe(data)), **changes})
            if count > 1:
                with contextlib.suppress(Interrupted):
                    train(steady, folder / str(count), callbacks=[Terminate(1, 2)], verbose=0)
                assert "step" in checkpoints.read_state(folder / str(count) / "last.keras")
            train(steady, folder / str(count), verbose=0)


class Steady(SmallRecipe):
    def build_model(self):
        keras.utils.set_random_seed(self.seed)
        return Small(self.num_classes, batch_norm=False, dropout=0.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
