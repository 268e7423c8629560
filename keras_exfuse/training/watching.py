"""What stops a run: a NaN loss, a full disk."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from keras_exfuse._files import DiskFullError, is_disk_full
from keras_exfuse.training.checkpoints import LAST, steps_before


class StopAtNaN(keras.callbacks.Callback):
    """Stops at the first NaN or infinite loss, and names the step and its images.

    Keras's `TerminateOnNaN` stops, too, but as if the run had ended well, and does not know the images.

    Args:
        names: Gives the names of the images in a batch, counted from 0 over the whole run.
        advice: What else to say.
    """

    def __init__(self, names: Callable[[int], list[str]], advice: str):
        super().__init__()
        self.names, self.advice = names, advice
        self.first = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.first = epoch, epoch * self.params["steps"] + steps_before(self.params)

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        step = self.first + batch
        kind = "NaN" if math.isnan(loss) else "Infinite"
        raise ValueError(
            f"{kind} loss at step {step + 1} (epoch {self.epoch + 1}). The images of that batch: "
            f"{', '.join(self.names(step))}. {self.advice}"
        )


def advice(mixed_float16: bool) -> str:
    """What to try after a NaN loss."""
    options = ["a lower `learning_rate`", "`clip_norm = 1`", "a longer `warmup`"]
    if mixed_float16:
        options.insert(0, '`dtype = "mixed_bfloat16"`')
    return (
        f"Try {', '.join(options[:-1])} or {options[-1]} in a new directory, and look at the images with "
        f"`keras-exfuse data check`. {LAST} holds the state that was stored last."
    )


@contextlib.contextmanager
def full_disk_explained(directory: Path) -> Iterator[None]:
    """Says what a full disk means for a run.

    Args:
        directory: The run's.

    Raises:
        DiskFullError: In the place of the error about the file that was being written.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        kept = "Nothing of it was stored yet: make room and repeat the command."
        if (directory / LAST).exists():
            kept = f"{LAST} is whole: make room and repeat the command to go on from there."
        raise DiskFullError(f"The disk of {directory} is full, the run has stopped. {kept}") from error
