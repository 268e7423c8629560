"""A progress bar over a whole training run; plain lines where the output is not a terminal."""

import time
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keras_exfuse.training.checkpoints import steps_before

_LINES = 10  # Lines that a run prints into a file.


class TrainingProgress(keras.callbacks.Callback):
    """Shows steps, loss and mean IoU of a run.

    Use it as a context manager around the training: however that ends, the terminal is as it was. For an interruption
    or an error Keras calls no callback, and the bar would go on in its thread, with the cursor hidden.

    Args:
        console: Where to show them.
    """

    def __init__(self, console: Console):
        super().__init__()
        self.console = console
        self.done = 0
        self.start = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.on_train_end()

    def on_train_begin(self, logs=None):
        self.total = self.params["epochs"] * self.params["steps"]
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[scores]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total, scores="")

    def on_stop_requested(self, name: str) -> None:
        """Say that Ctrl-C or SIGTERM was understood; called by `train` inside the handler."""
        if self.bar is not None:  # Drawn by the bar's thread: this one may be in the middle of writing.
            again = "; Ctrl-C again stops at once" if name == "SIGINT" else ""
            self.bar.update(self.task, scores=f"stopping after this step{again}")

    def on_epoch_begin(self, epoch, logs=None):
        self.done = epoch * self.params["steps"] + steps_before(self.params)

    def on_train_batch_end(self, batch, logs=None):
        step = self.done + batch + 1
        if self.bar is not None:
            self.bar.update(self.task, completed=step, scores=_scores(logs))
        elif step * _LINES // self.total != (step - 1) * _LINES // self.total or step == 1:
            seconds = time.monotonic() - self.start
            self.console.print(f"step {step} of {self.total}  {_scores(logs)}  {seconds:.0f} s")

    def on_epoch_end(self, epoch, logs=None):
        if logs and "val_mean_iou" in logs:
            self.console.print(
                f"epoch {epoch + 1} of {self.params['epochs']}: training mean IoU {logs['mean_iou']:.3f}, "
                f"validation mean IoU {logs['val_mean_iou']:.3f}, loss {logs['val_loss']:.3f}"
            )

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _scores(logs: dict[str, Any] | None) -> str:
    logs = logs or {}
    return f"loss {float(logs.get('loss', 0)):.3f}  mean IoU {float(logs.get('mean_iou', 0)):.3f}"
