"""One training run in one directory, from which an interrupted run goes on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_exfuse import _kernels
from keras_exfuse._files import half_written, read_json, replace_file
from keras_exfuse.loading import BEST, MODEL, RUN
from keras_exfuse.presets.card import make_card, save_with_card
from keras_exfuse.training import checkpoints, distribution, run_directory, watching
from keras_exfuse.training.data import TrainingData, training_data
from keras_exfuse.training.model import compiled_model
from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.settings import write_toml
from keras_exfuse.training.stopping import StopSignals

RECIPE, LOG = "recipe.toml", run_directory.LOG


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    say: Callable[[str], Any] = print,
) -> tuple[keras.Model, dict[str, Any]]:
    """Train a model after a recipe.

    The directory `output` gets:

    - `recipe.toml`, all settings, and `run.json`: settings, versions, commit (those before an interruption, too), and
      in the end scores and time;
    - `log.csv`, a line for each epoch, and `tensorboard/`, the same as curves, with images;
    - `last.keras`, the state after the last epoch, or inside one (`Recipe.checkpoint_every`), with the optimizer's;
      `previous.keras`, the one before;
    - with validation `best.keras`, the model with the best mean IoU, and `classes.csv`, its IoU of each class;
    - in the end `model.keras`, the model after the last step.

    From then on the directory means one model, for `keras_exfuse.load`, the commands and `init_from`: `best.keras` if
    there was validation, else `model.keras`. `run.json` names it, with its class names and its score.

    Calling this again with the same recipe goes on from `last.keras`, or from `previous.keras` if that is damaged, with
    the images, learning rate, optimizer and random state that the run would have had: also after a kill.

    Ctrl-C and SIGTERM (from Slurm, Kubernetes) take effect at the end of the step, whose state is stored; a second
    Ctrl-C at once. In a validation, what is stored is at most a minute of training old.

    Args:
        recipe: What to do.
        output: The run's directory; new, empty, or of an interrupted run of the same recipe.
        callbacks: More callbacks for `fit`. If one has a method `on_stop_requested`, it is called with "SIGINT" or
            "SIGTERM" as soon as that comes, inside the signal's handler. In the first epoch of a resumed run, Keras
            numbers batches from where it goes on; `params["steps_before"]` says how many came before.
        verbose: As in `keras.Model.fit`.
        say: Prints a line.

    Returns:
        The model after the last step, with `class_names` if the recipe has them, and what `run.json` holds.

    Raises:
        ValueError: If the directory holds another or a finished run, another process trains in it, the data do not fit
            or have changed, or the loss becomes NaN.
        OSError: If the disk is full.
        Interrupted: A `KeyboardInterrupt` after Ctrl-C or SIGTERM, with the `exit_code` 130 or 143.
    """
    output = Path(output)
    check_directory(recipe, output)
    _kernels.keep_compilations()
    if recipe.deterministic:
        distribution.be_deterministic()
    # Data first: building a model takes long, and most mistakes are in the data.
    data = training_data(recipe)
    with (
        run_directory.locked(output),
        watching.full_disk_explained(output),
        distribution.several_devices(recipe.devices),
    ):
        check_directory(recipe, output)  # Again: what another process did there until now.
        result = _train(recipe, output, data, callbacks, verbose, say)
    (output / run_directory.LOCK).unlink(missing_ok=True)  # Nobody trains in the directory of a finished run.
    return result


def _train(
    recipe: Recipe,
    output: Path,
    data: TrainingData,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    say: Callable[[str], Any],
) -> tuple[keras.Model, dict[str, Any]]:
    epochs, batches = recipe.plan(data.batches)
    found = checkpoints.find(output, say)
    earlier = _earlier_environments(output, data) if found else []
    for left in half_written(output):
        left.unlink()
    if not found:  # A kill in the first epoch may leave one, even of another recipe.
        (output / BEST).unlink(missing_ok=True)
    model = compiled_model(recipe, epochs * batches, say if not found else lambda line: None)
    if recipe.class_names:
        model.class_names = tuple(recipe.class_names)
    if found:
        checkpoints.load(model, *found)
        say(f"Resuming {output} after {checkpoints.place(found[1])} of {epochs}.")
    record: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "epochs": epochs,
        "steps": epochs * batches,
        "images": len(data.examples),
        "examples": data.checksum(),
        "environment": run_directory.environment(),
        "earlier_environments": earlier,
    }
    _write_record(output, record, recipe)
    state = _fit(recipe, output, data, model, found, callbacks, verbose, say)
    record["scores"] = run_directory.last_row(output / LOG)
    record["seconds"] = state["seconds"]
    record["backend"] = keras.backend.backend()
    record["keras"] = keras.__version__
    record["model"] = MODEL if state["best"] is None else BEST
    record.update(make_card(recipe.class_names, state["best"]))
    _write_record(output, record, recipe)
    # The model last: its file says that the run is complete.
    save_with_card(model, output / MODEL, make_card(recipe.class_names, _last_score(recipe, data, record)))
    (output / checkpoints.PREVIOUS).unlink(missing_ok=True)
    return model, record


def _fit(
    recipe: Recipe,
    output: Path,
    data: TrainingData,
    model: keras.Model,
    found: tuple[Path, dict[str, Any]] | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    say: Callable[[str], Any],
) -> dict[str, Any]:
    """Train from the start or from a checkpoint on, to the end; gives what the run has done then."""
    epochs, batches = recipe.plan(data.batches)
    state: dict[str, Any] = dict(found[1]) if found else {"epochs": 0, "seconds": 0.0, "best": None}
    first = state["epochs"] * batches
    resumed: list[keras.callbacks.Callback] = []
    if found and "step" in state:
        first += state["step"] - 1
        resumed = [checkpoints.ResumedEpoch(*found)]
        state = {name: state[name] for name in ("epochs", "seconds", "best")}
    run_directory.keep_rows(output / LOG, state["epochs"])
    val_batches = data.validation_batches()
    told = [each.on_stop_requested for each in callbacks if hasattr(each, "on_stop_requested")]
    with StopSignals(told) as stop:
        own = _callbacks(recipe, data, output, state, val_batches, say, stop)
        model.fit(
            data.training_batches(first),
            validation_data=val_batches,
            initial_epoch=state["epochs"],
            epochs=epochs,
            steps_per_epoch=batches,
            shuffle=False,  # The pipeline shuffles.
            callbacks=[*resumed, *own, *callbacks],
            verbose=verbose,
        )
    if recipe.ema is not None:
        checkpoints.separate_from_average(model)
    return state


def _earlier_environments(output: Path, data: TrainingData) -> list[dict[str, Any]]:
    """What the run was made with before it was interrupted, oldest first.

    Raises:
        ValueError: If it had other images than there are now.
    """
    before = read_json(output / RUN)
    if before.get("examples", data.checksum()) != data.checksum():
        raise ValueError(
            f"{output} holds an unfinished run on {before['images']} images; the data are others now "
            f"({len(data.examples)} images), so it cannot go on as it would have. Put the data back, or begin in "
            "another directory, with this one's last.keras as `init_from`."
        )
    return [*before.get("earlier_environments", []), before["environment"]]


def _callbacks(
    recipe: Recipe,
    data: TrainingData,
    output: Path,
    state: dict[str, Any],
    val_batches: Any,
    say: Any,
    stop: StopSignals,
) -> list[keras.callbacks.Callback]:
    advice = watching.advice(recipe.dtype == "mixed_float16")
    found: list[keras.callbacks.Callback] = [watching.StopAtNaN(data.names, advice)]
    if recipe.ema is not None:
        found.append(keras.callbacks.SwapEMAWeights())  # The average is what is validated.
    if recipe.tensorboard:
        images = data.training_batches(0) if val_batches is None else val_batches
        found += run_directory.tensorboard(output, images, tuple(recipe.class_names), say)
    # The log before the checkpoint: a line too many is cut off again, a missing one could not be made good.
    found.append(keras.callbacks.CSVLogger(str(output / LOG), append=state["epochs"] > 0))
    names, validated_on = tuple(recipe.class_names), _validated_on(recipe, data)
    found.append(checkpoints.Checkpoints(output, state, names, validated_on, recipe.checkpoint_every, stop))
    return found


def _validated_on(recipe: Recipe, data: TrainingData) -> dict[str, Any] | None:
    """The data of the validation, as a score names them."""
    if data.validation is None:
        return None
    return {
        "data": recipe.val_data or recipe.data,
        "split": recipe.val_split,
        "images": len(data.validation),
    }


def _last_score(recipe: Recipe, data: TrainingData, record: dict[str, Any]) -> dict[str, Any] | None:
    """The score of the model after the last step, or None without validation."""
    on, mean_iou = _validated_on(recipe, data), record["scores"].get("val_mean_iou")
    return None if on is None else {**on, "epoch": record["epochs"], "mean_iou": mean_iou}


def _write_record(output: Path, record: dict[str, Any], recipe: Recipe) -> None:
    header = (
        "# All settings of this run. Again: keras-exfuse train --recipe THIS_FILE --output NEW_DIRECTORY\n"
    )
    # run.json first: it is what makes the directory a run's.
    replace_file(output / RUN, lambda path: path.write_text(json.dumps(record, indent=2) + "\n"))
    # TOML has no None, and here it is not the default.
    settings = {**recipe.to_dict(), "backbone_weights": recipe.backbone_weights or "none"}
    text = header + write_toml(settings) + "\n"
    replace_file(output / RECIPE, lambda path: path.write_text(text, encoding="utf-8"))


def check_directory(recipe: Recipe, output: Path) -> None:
    """Raise a ValueError unless a run of this recipe may begin, or go on, in the directory.

    Args:
        recipe: What is to be run.
        output: The directory.

    Raises:
        ValueError: If it is a file, holds a finished run, a run of another recipe, or something else.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is a file; the run needs a directory. Choose another name.")
    if (output / MODEL).exists():
        raise ValueError(
            f"{output} holds a finished run ({MODEL}). Choose another directory, or remove this one."
        )
    if not (output / RUN).exists():
        if set(output.iterdir()) - {*half_written(output), output / run_directory.LOCK}:
            raise ValueError(f"{output} is not empty and holds no run. Choose another directory.")
        return
    if not any((output / name).exists() for name in (checkpoints.LAST, checkpoints.PREVIOUS)):
        return  # It stopped before its first checkpoint: there is nothing to lose.
    old, new = Recipe.load(output / RUN).to_dict(), recipe.to_dict()
    new["checkpoint_every"] = old["checkpoint_every"]  # It changes nothing in the result.
    different = [f"{name} was {old[name]!r}, is {new[name]!r}" for name in new if old.get(name) != new[name]]
    if different:
        raise ValueError(
            f"{output} holds an unfinished run of another recipe: {'; '.join(different)}. "
            "Repeat the old settings to go on with it (`keras-exfuse train --resume` takes them from there), or choose "
            "another directory."
        )
