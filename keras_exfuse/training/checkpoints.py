"""The state of a run on disk: written as a whole or not at all, checked when it is read."""

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._files import replace_file
from keras_exfuse.loading import BEST
from keras_exfuse.presets.card import add_card, make_card, save_with_card
from keras_exfuse.training import distribution, run_directory

LAST, PREVIOUS = "last.keras", "previous.keras"
_STATE = "run_state.json"  # Inside the .keras file, which is a zip: so both are of one epoch.


class Checkpoints(keras.callbacks.Callback):
    """Stores the state after each epoch as `last.keras`, the one before as `previous.keras`, and `best.keras`.

    With the best model goes `classes.csv`, the IoU of each class in that validation.

    Keras's `BackupAndRestore` does not store the state of random layers (dropout), and does not notice a file that is
    damaged; its `ModelCheckpoint` writes in place, so that a kill while it does leaves a broken file.

    Args:
        directory: The run's.
        state: What the run has done: `epochs`, `seconds`, `best` (the score of `best.keras`); kept up to date.
        class_names: Names of the classes, or none.
        validated_on: What describes the data of the validation in a score.
    """

    def __init__(
        self,
        directory: Path,
        state: dict[str, Any],
        class_names: tuple[str, ...] = (),
        validated_on: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.directory, self.state = directory, state
        self.class_names, self.validated_on = class_names, validated_on or {}
        self.start = time.monotonic() - state["seconds"]

    def on_train_batch_begin(self, batch, logs=None):
        # Only here: under PyTorch, what hands out the first batch draws a number, too.
        distribution.set_random_state(self.state.pop("random_state", []))

    def on_epoch_end(self, epoch, logs=None):
        mean_iou = (logs or {}).get("val_mean_iou")
        best = self.state["best"]
        # The best one first: a kill between the two repeats the epoch, and writes both.
        if mean_iou is not None and (best is None or mean_iou > best["mean_iou"]):
            self._save_best({**self.validated_on, "epoch": epoch + 1, "mean_iou": float(mean_iou)})
        self.state["epochs"] = epoch + 1
        self.state["seconds"] = round(time.monotonic() - self.start, 1)
        card = make_card(self.class_names)
        save(self.model, self.directory / LAST, self.state, keep=self.directory / PREVIOUS, card=card)

    def _save_best(self, score: dict[str, Any]) -> None:
        self.state["best"] = score
        with averaged_weights(self.model):
            save_with_card(self.model, self.directory / BEST, make_card(self.class_names, score))
        counts = run_directory.confusion_matrix(self.model)
        if counts is not None:
            run_directory.write_classes(self.directory / run_directory.CLASSES, counts, self.class_names)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Inside, the model has the moving average of its weights, if its optimizer keeps one."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    raw = [keras.ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, raw, strict=True):
            variable.assign(value)


def separate_from_average(model: keras.Model) -> None:
    """After `fit` with a moving average, give the model arrays of its own.

    On JAX, Keras leaves it those of the optimizer; the next compiled step takes them away from both.
    """
    for variable in model.trainable_variables:
        variable.assign(keras.ops.convert_to_numpy(variable).copy())


def save(
    model: keras.Model,
    path: Path,
    state: dict[str, Any],
    keep: Path | None = None,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a model with its optimizer, the state of its random layers, and that of the run.

    Args:
        model: The model.
        path: A .keras file.
        state: What JSON can hold.
        keep: What the file that is there now is called from then on.
        card: What the model says of itself; see `keras_exfuse.presets.card`.
    """
    random = {
        "seeds": [keras.ops.convert_to_numpy(each).tolist() for each in _seeds(model)],
        "random_state": distribution.random_state(),
    }

    def write(temporary: Path) -> None:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_STATE, json.dumps({**state, **random}))
        if card is not None:
            add_card(temporary, card)
        if keep is not None and path.exists():
            os.replace(path, keep)

    replace_file(path, write)


def load(model: keras.Model, path: Path, state: dict[str, Any]) -> None:
    """Give a compiled model the weights, optimizer state and seeds of a checkpoint.

    Raises:
        ValueError: If they do not fit.
    """
    model.load_weights(path)
    for variable, value in zip(_seeds(model), state["seeds"], strict=True):
        variable.assign(np.asarray(value, variable.dtype))


def find(directory: Path, say: Callable[[str], Any] = print) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint of a run.

    Args:
        directory: The run's.
        say: Prints a line; told of a damaged file, which is removed.

    Returns:
        The file and its state, or None if none was written yet.

    Raises:
        ValueError: If there are files, but all are damaged.
    """
    damaged = []
    for path in (directory / LAST, directory / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = read_state(path)
        except ValueError as error:
            damaged.append(path)
            say(str(error))
            continue
        for each in damaged:
            each.unlink()  # Or it would take the good one's place as the one before.
            say(f"Using the one before it: {path.name}, of epoch {state['epochs']}.")
        return path, state
    if damaged:
        raise ValueError(
            f"No checkpoint in {directory} is whole. Remove the directory to begin again, or choose another."
        )
    return None


def read_state(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, every byte of which is checked.

    Raises:
        ValueError: If the file is damaged; the text says how.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is None:
                return json.loads(archive.read(_STATE))
    except Exception as error:  # zipfile raises whatever the bytes lead it to.
        raise ValueError(f"{path} is damaged ({error}).") from error
    raise ValueError(f"{path} is damaged: the checksum of {broken} in it is wrong.")


def _seeds(model: keras.Model) -> list[Any]:
    """State of the random layers, which `weights`, and so Keras's files, leave out."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
