"""The state of a run on disk: written as a whole or not at all, checked when it is read."""

import contextlib
import json
import os
import signal
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
from keras_exfuse.training.settings import parse_interval
from keras_exfuse.training.stopping import Interrupted, StopSignals

LAST, PREVIOUS = "last.keras", "previous.keras"
_BEFORE_VALIDATION = 60.0  # Seconds of training that may be lost if a validation is interrupted.
_STATE = "run_state.json"  # Inside the .keras file, which is a zip: so both are of one epoch.


class Checkpoints(keras.callbacks.Callback):
    """Stores the state as `last.keras`, the one before as `previous.keras`, and `best.keras`.

    That is after each epoch, at an interval inside it, before a validation, and when the run is asked to stop. With the
    best model goes `classes.csv`, the IoU of each class in that validation.

    Keras's `BackupAndRestore` does not store the state of random layers (dropout), and does not notice a file that is
    damaged; its `ModelCheckpoint` writes in place, so that a kill while it does leaves a broken file.

    Args:
        directory: The run's.
        state: What the run has done: `epochs`, `seconds`, `best` (the score of `best.keras`); kept up to date.
        class_names: Names of the classes, or none.
        validated_on: What describes the data of the validation in a score; None without validation.
        every: The interval, as in `Recipe.checkpoint_every`.
        stop: Says whether the run is asked to stop.

    Raises:
        Interrupted: From `fit`, when it was.
    """

    def __init__(
        self,
        directory: Path,
        state: dict[str, Any],
        class_names: tuple[str, ...] = (),
        validated_on: dict[str, Any] | None = None,
        every: str = "10 minutes",
        stop: StopSignals | None = None,
    ):
        super().__init__()
        self.directory, self.state = directory, state
        self.class_names, self.validated_on = class_names, validated_on
        self.seconds, self.steps = parse_interval(every)
        self.stop = stop or StopSignals()
        self.start = time.monotonic() - state["seconds"]
        self.stored = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.step = epoch, 0
        # A resumed epoch begins with the step that was stored: see ResumedEpoch.
        self.stored_step = steps_before(self.params) + 1 if steps_before(self.params) else 0

    def on_train_batch_begin(self, batch, logs=None):
        # Only here: under PyTorch, what hands out the first batch draws a number, too.
        distribution.set_random_state(self.state.pop("random_state", []))

    def on_train_batch_end(self, batch, logs=None):
        self.step = steps_before(self.params) + batch + 1
        if self.step > self.stored_step and (self.stop.asked or self._due()):
            metrics = [keras.ops.convert_to_numpy(each).tolist() for each in self.model.metrics_variables]
            self._save({**self.state, "step": self.step, "metrics": metrics})
            self.stored_step = self.step
        self._stop_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        mean_iou = (logs or {}).get("val_mean_iou")
        best = self.state["best"]
        # The best one first: a kill between the two repeats the epoch, and writes both.
        if mean_iou is not None and (best is None or mean_iou > best["mean_iou"]):
            self._save_best({**(self.validated_on or {}), "epoch": epoch + 1, "mean_iou": float(mean_iou)})
        self.state["epochs"] = epoch + 1
        self._save(dict(self.state))

    def _due(self) -> bool:
        """Whether the state is to be stored after this step, which is not the last of an epoch without validation."""
        waited = time.monotonic() - self.stored
        if self.step == self.params["steps"]:
            return self.validated_on is not None and waited > _BEFORE_VALIDATION
        if self.steps is not None:
            return self.step % self.steps == 0
        return self.seconds is not None and waited > self.seconds

    def _stop_if_asked(self) -> None:
        if self.stop.asked is None:
            return
        kept = "nothing was stored yet"
        if self.stored_step or self.epoch:
            where = f"step {self.stored_step} of {self.params['steps']} in epoch {self.epoch + 1}"
            where = where if self.stored_step else f"epoch {self.epoch}"
            kept = f"the state after {where} is in {self.directory / LAST}"
        name = "Ctrl-C" if self.stop.asked == signal.SIGINT else signal.Signals(self.stop.asked).name
        raise Interrupted(self.stop.asked, f"Interrupted by {name}: {kept}.")

    def _save(self, state: dict[str, Any]) -> None:
        self.state["seconds"] = state["seconds"] = round(time.monotonic() - self.start, 1)
        card = make_card(self.class_names)
        save(self.model, self.directory / LAST, state, keep=self.directory / PREVIOUS, card=card)
        self.stored = time.monotonic()

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


class ResumedEpoch(keras.callbacks.Callback):
    """Lets the first epoch of a run go on after the step at which its state was stored.

    Keras trains whole epochs only. So the step that was stored is made once more, by which Keras builds all that has a
    state, metrics included. Then the stored state takes the place of what came of it, and the epoch ends after the
    steps that are left. The batches have to begin with that step's. It has to be the first of the callbacks.

    Args:
        path: The checkpoint.
        state: Its state.
    """

    def __init__(self, path: Path, state: dict[str, Any]):
        super().__init__()
        self.path, self.state = path, state
        self.resumed = False

    def on_train_begin(self, logs=None):
        self.params["steps_before"] = self.state["step"] - 1

    def on_train_batch_end(self, batch, logs=None):
        if not self.resumed:
            self.resumed = True
            model = self.model
            load(model, self.path, self.state)
            for variable, value in zip(model.metrics_variables, self.state["metrics"], strict=True):
                distribution.assign_total(variable, np.asarray(value, variable.dtype))
            distribution.set_random_state(self.state["random_state"])
        if steps_before(self.params) and steps_before(self.params) + batch + 1 == self.params["steps"]:
            self.model.stop_training = True  # Keras leaves the epoch, and validates.

    def on_epoch_end(self, epoch, logs=None):
        if steps_before(self.params):
            self.params["steps_before"] = 0
            self.model.stop_training = False


def steps_before(params: dict[str, Any]) -> int:
    """Steps of the epoch that were made before the run was resumed: Keras numbers its batches from there on.

    Args:
        params: Those of a callback.
    """
    return params.get("steps_before", 0)


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
            say(f"Using the one before it: {path.name}, of {place(state)}.")
        return path, state
    if damaged:
        raise ValueError(
            f"No checkpoint in {directory} is whole. Remove the directory to begin again, or choose another."
        )
    return None


def place(state: dict[str, Any]) -> str:
    """Where in a run a state was stored, in words."""
    if "step" in state:
        return f"step {state['step']} in epoch {state['epochs'] + 1}"
    return f"epoch {state['epochs']}"


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
