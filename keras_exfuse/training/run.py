"""One training run in one folder, which an interrupted run picks up again."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_exfuse._files import replace_file
from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.schedules import TwoRateAdamW, WarmupPolynomialDecay

MODEL, RUN, LOG, BACKUP = "model.keras", "run.json", "log.csv", "backup"


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> tuple[keras.Model, dict[str, Any]]:
    """Train a model after a recipe.

    The folder `output` gets `run.json` (the recipe, then scores and time), `log.csv` (a line for each pass), and in
    the end `model.keras`. While it trains, `backup/` holds the state after the last whole pass: calling
    this again with the same recipe goes on from there.

    Args:
        recipe: What to do.
        output: The run's folder; new, empty, or of an interrupted run of the same recipe.
        callbacks: More callbacks for `fit`.
        verbose: As in `keras.Model.fit`.

    Returns:
        The trained model and what `run.json` holds.

    Raises:
        ValueError: If the folder holds another or a finished run, or the data do not fit.
    """
    output = Path(output)
    check_folder(recipe, output)
    start = time.monotonic()
    # Data first: building a model takes long, and most mistakes are in the data.
    first_pass = _finished_passes(output)
    train_data, val_data = _data(recipe, recipe.seed + 7919 * first_pass)
    passes, batches = recipe.plan(len(train_data))
    model = recipe.build_model()
    model.compile(optimizer=make_optimizer(recipe, model, passes * batches))
    # Building it outside the compiled step halves the time that TensorFlow needs to start.
    model.optimizer.build(model.trainable_variables)

    output.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"recipe": recipe.to_dict(), "passes": passes, "steps": passes * batches}
    replace_file(output / RUN, lambda path: path.write_text(json.dumps(record, indent=2) + "\n"))
    history = model.fit(
        train_data.repeat(),
        validation_data=val_data,
        epochs=passes,
        steps_per_epoch=batches,
        shuffle=False,  # The pipeline shuffles.
        callbacks=[
            keras.callbacks.BackupAndRestore(str(output / BACKUP), double_checkpoint=True),
            keras.callbacks.CSVLogger(str(output / LOG), append=first_pass > 0),
            *callbacks,
        ],
        verbose=verbose,
    )
    replace_file(output / MODEL, lambda path: model.save(path))
    record["scores"] = {name: values[-1] for name, values in history.history.items()}
    record["seconds"] = round(time.monotonic() - start, 1)
    record["backend"] = keras.backend.backend()
    record["keras"] = keras.__version__
    replace_file(output / RUN, lambda path: path.write_text(json.dumps(record, indent=2) + "\n"))
    return model, record


def make_optimizer(recipe: Recipe, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """AdamW on a polynomial schedule with warm-up; with a rate of its own for the encoder if the recipe has one."""
    warmup_steps = min(int(steps * recipe.warmup), steps - 1)
    schedule = WarmupPolynomialDecay(recipe.learning_rate, steps, warmup_steps)
    if recipe.encoder_learning_rate is None:
        return keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
    return TwoRateAdamW(
        schedule,
        share=recipe.encoder_learning_rate / recipe.learning_rate,
        paths=[variable.path for variable in model.backbone.trainable_variables],
        weight_decay=recipe.weight_decay,
    )


def check_folder(recipe: Recipe, output: Path) -> None:
    """Raise a ValueError unless a run of this recipe may begin, or go on, in the folder.

    Args:
        recipe: What is to be run.
        output: The folder.

    Raises:
        ValueError: If it is a file, holds a finished run, a run of another recipe, or something else.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is a file; the run needs a folder. Choose another name.")
    if (output / MODEL).exists():
        raise ValueError(
            f"{output} holds a finished run ({MODEL}). Choose another folder, or remove this one."
        )
    if not (output / RUN).exists():
        if any(output.iterdir()):
            raise ValueError(f"{output} is not empty and holds no run. Choose another folder.")
        return
    old, new = Recipe.load(output / RUN).to_dict(), recipe.to_dict()
    different = [f"{name} was {old[name]!r}, is {new[name]!r}" for name in new if old.get(name) != new[name]]
    if different:
        raise ValueError(
            f"{output} holds an unfinished run of another recipe: {'; '.join(different)}. "
            "Repeat the old settings to go on with it, or choose another folder."
        )


def _finished_passes(output: Path) -> int:
    """How many passes an interrupted run has behind it."""
    metadata = output / BACKUP / "training_metadata.json"
    try:
        return int(json.loads(metadata.read_text())["epoch"])
    except (OSError, ValueError, KeyError):
        return 0


def _data(recipe: Recipe, seed: int):
    """Batches for training and for validation; another order after a restart than in the passes before it."""
    from keras_exfuse.data import Augmentation, voc_folder

    augmentation = Augmentation(crop_size=recipe.crop_size, scale=recipe.scale)
    train_data = voc_folder(
        recipe.data,
        recipe.split,
        batch_size=recipe.batch_size,
        augmentation=augmentation,
        shuffle=True,
        seed=seed,
        num_classes=recipe.num_classes,
    )
    if recipe.val_split is None:
        return train_data, None
    val_data = voc_folder(
        recipe.data,
        recipe.val_split,
        batch_size=recipe.batch_size,
        num_classes=recipe.num_classes,
        pad_to_multiple=64,
    )
    return train_data, val_data
