"""What a saved model says of itself: the names of its classes, the version that wrote it, its measured score.

A preset has it in its `config.json`, a run in its `run.json`, and a `.keras` file of a run in a member of its own, so
that the names travel with the weights.
"""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_exfuse._constants import __version__
from keras_exfuse._files import check_expansion, replace_file

MEMBER = "keras_exfuse.json"  # Inside the .keras file, which is a zip; Keras passes it over.


def make_card(class_names: Sequence[str] | None, score: dict[str, Any] | None = None) -> dict[str, Any]:
    """The card of a model that is about to be saved.

    Args:
        class_names: A name for each class, or nothing if they have none.
        score: What was measured and on which data, for example `{"data": ..., "images": 227, "mean_iou": 0.43}`.

    Returns:
        `version` (of this package), `class_names` and `score`; what JSON can hold.
    """
    return {"version": __version__, "class_names": list(class_names or ()) or None, "score": score}


def save_with_card(model: keras.Model, path: str | os.PathLike[str], card: dict[str, Any]) -> Path:
    """Write a `.keras` file with a card in it, as a whole or not at all."""

    def write(temporary: Path) -> None:
        model.save(temporary)
        add_card(temporary, card)

    return replace_file(Path(path), write)


def add_card(file: Path, card: dict[str, Any]) -> None:
    """Put a card into a `.keras` file that has none."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(MEMBER, json.dumps(card))


def load_keras_file(file: str | os.PathLike[str]) -> keras.Model:
    """Read the model in a `.keras` file, not compiled.

    Raises:
        ValueError: If it is damaged, or holds code; the text names it.
    """
    path = Path(file)
    if not zipfile.is_zipfile(path):  # Keras says that there is no such file.
        raise ValueError(
            f"{path} cannot be read as a Keras model: its {path.stat().st_size} bytes are no zip archive, so it is "
            "another file, or its end is missing. Copy it again."
        )
    check_expansion(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its reader stumbles over.
        if "safe_mode" in str(error):  # Keras's own text advises to switch it off.
            raise ValueError(
                f"{path} holds Python code (a Lambda layer, for example), which can be any program. It was not run: "
                "only models of layers that are registered with Keras are read."
            ) from error
        raise ValueError(f"{path} cannot be read as a Keras model: {error}") from error


def read_card(file: Path) -> dict[str, Any]:
    """The card in a `.keras` file, empty for a file that Keras wrote by itself."""
    with zipfile.ZipFile(file) as archive:
        if MEMBER not in archive.namelist():
            return {}
        return json.loads(archive.read(MEMBER))
