"""What a run leaves beside its weights: about itself, its curve, its scores by class, events for TensorBoard."""

import contextlib
import csv
import importlib.util
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_exfuse._constants import __version__
from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.training import distribution

LOG, CLASSES, EVENTS, LOCK = "log.csv", "classes.csv", "tensorboard", "run.lock"
_OVERLAYS = 4


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other process from training in a directory.

    The lock is the operating system's (`flock`; on Windows `msvcrt.locking`), so it ends with its process, however that
    ends: the file that stays behind locks nothing.

    Args:
        directory: It is made if it is not there.

    Raises:
        ValueError: If another process trains in it.
        ImportError: If filelock is not installed.
    """
    filelock = require("filelock", extra="data")
    directory.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            f"Another process is training in {directory} (it holds {LOCK} there). Wait until it ends, or choose "
            "another directory."
        ) from None
    try:
        yield
    finally:
        lock.release()


def environment() -> dict[str, Any]:
    """Versions, machine, and the commit if this package is run from a checkout."""
    backend = keras.backend.backend()
    return {
        "keras_exfuse": __version__,
        "git_commit": git_commit(Path(__file__).parents[1]),
        "keras": keras.__version__,
        "backend": backend,
        backend: distribution.version(backend),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "devices": distribution.device_names(backend),
    }


def git_commit(directory: Path) -> str | None:
    """The commit that a directory is checked out at, with "+changes" if tracked files differ; None elsewhere."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Only a repository of this package: not one that its virtual environment happens to lie in.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != directory.resolve().parent:
            return None
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def keep_rows(log: Path, epochs: int) -> None:
    """Cut a log to its first epochs: a kill may have come between a line and the checkpoint of its epoch."""
    if not log.exists():
        return
    with log.open(newline="") as stream:
        rows = list(csv.reader(stream))
    if epochs == 0:
        log.unlink()
        return
    kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(float(row[0])) < epochs]

    def write(path: Path) -> None:
        with path.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([rows[0], *kept])

    replace_file(log, write)


def last_row(log: Path) -> dict[str, float]:
    """Scores of the last epoch in a log."""
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    # Without validation, Keras writes NA into its columns.
    return {
        name: float(value) for name, value in rows[-1].items() if name != "epoch" and value not in ("", "NA")
    }


def confusion_matrix(model: keras.Model) -> np.ndarray | None:
    """What the metrics of a model counted last, (C, C) with rows the truth; None if none of them counts."""
    from keras_exfuse.metrics import ConfusionMatrix

    # `compile` wraps its metrics in one.
    metrics = [each for metric in model.metrics for each in getattr(metric, "metrics", None) or [metric]]
    return next((each.counts() for each in metrics if isinstance(each, ConfusionMatrix)), None)


def write_classes(path: Path, counts: np.ndarray, names: tuple[str, ...]) -> None:
    """Write the IoU of each class, and the share of the pixels that it has, as a CSV.

    Args:
        path: The file.
        counts: Confusion matrix (C, C), rows the truth.
        names: C names, or none.
    """
    from keras_exfuse.metrics import iou_per_class

    iou = iou_per_class(counts)
    shares = counts.sum(axis=1) / max(counts.sum(), 1)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["class", "name", "iou", "share_of_pixels"])
            for label, (value, share) in enumerate(zip(iou, shares, strict=True)):
                name = names[label] if names else f"class {label}"
                writer.writerow([label, name, "" if np.isnan(value) else f"{value:.6f}", f"{share:.6f}"])

    replace_file(path, write)


def tensorboard(
    directory: Path, batches: Any, class_names: tuple[str, ...], say: Callable[[str], Any]
) -> list[keras.callbacks.Callback]:
    """Keras's TensorBoard callback, and images with what the model makes of them; none if it is not installed.

    Args:
        directory: The run's.
        batches: Where the images come from.
        class_names: For the legend.
        say: Prints a line.
    """
    missing = [name for name in ("tensorboard", "tensorflow") if importlib.util.find_spec(name) is None]
    if missing:
        say(f"No events for TensorBoard: {missing[0]} is not installed (pip install 'keras-exfuse[train]').")
        return []
    events = directory / EVENTS
    scalars = keras.callbacks.TensorBoard(str(events), write_graph=False, update_freq="epoch")
    return [scalars, Overlays(events / "images", batches, class_names)]


class Overlays(keras.callbacks.Callback):
    """Writes a few images for TensorBoard after each epoch, with the classes that the model finds in them.

    Args:
        directory: Where to.
        batches: Their first ones are shown.
        class_names: For the legend.
    """

    def __init__(self, directory: Path, batches: Any, class_names: tuple[str, ...]):
        super().__init__()
        self.directory, self.batches, self.class_names = directory, batches, class_names
        self.images: Any = None

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(str(self.directory))
        self.images = next(iter(self.batches.as_numpy_iterator()))[0][:_OVERLAYS]

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        from keras_exfuse.visualize import overlay

        # One at a time: several large images at once may not fit into memory beside the training step.
        for number, image in enumerate(self.images):
            labels = np.argmax(self.model.predict_on_batch(image[None])[0], axis=-1)
            drawn = np.asarray(overlay(image, labels, self.class_names or None).convert("RGB"))
            with self.writer.as_default():
                tf.summary.image(f"image {number}", drawn[None], step=epoch)
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()
