"""The steps of the demo, each of which could stand in a program of yours."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse.cli.demonstration import synthetic

NUM_UNSEEN = 4
PRESET = "exfuse_efficientnet_lite0.voc2012_animals"
# Runs in a process of its own, where importing Keras or this package is impossible, as on a server that has
# neither. (TensorFlow imports Keras if it finds it; None in `sys.modules` makes it go without.)
SERVER = """
import sys
sys.modules["keras"] = sys.modules["keras_exfuse"] = None
import numpy as np
import tensorflow as tf
serving, folder = sys.argv[1:]
loaded = tf.saved_model.load(serving)
signature = loaded.signatures["serving_default"]
for number in range(int(open(folder + "/count").read())):
    image = np.load(f"{folder}/image_{number}.npy")
    np.save(f"{folder}/labels_{number}.npy", signature(images=tf.constant(image[None]))["labels"].numpy()[0])
"""


def run_demo(
    output: str | Path,
    *,
    steps: int,
    seed: int = 0,
    say: Callable[[str], Any] = print,
    callbacks: Sequence[Any] = (),
    backbone_weights: str | None = "imagenet",
) -> dict[str, float]:
    """Find a cat, make data, fine-tune, segment new images, export, and compare with what a server would answer.

    Args:
        output: Directory for everything; what an earlier demo wrote there is replaced.
        steps: Steps of the fine-tuning.
        seed: Seed of data, weights and order.
        say: Prints a line.
        callbacks: Callbacks of the training, such as a progress bar.
        backbone_weights: As in `ExFuse`.

    Returns:
        `cat`, the share of the photograph that is labelled as one; `untrained` and `trained` mean IoU; and
        `agreement`, the share of pixels on which model and server agree.

    Raises:
        ValueError: If the directory holds something that is not a demo's.
        RuntimeError: If the server process fails.
    """
    from keras_exfuse.export import export_savedmodel
    from keras_exfuse.inference import Predictor

    start = time.monotonic()
    output = _clear(Path(output))
    say("[bold]1. A photograph[/], by the trained model that comes with the package")
    cat = _find_cat(output / "photograph.png")
    say(f"   {output / 'photograph.png'}: {100 * cat:.0f} % of it is a cat")

    say("[bold]2. Data[/]: textured shapes on textured ground, in VOC layout")
    data = synthetic.write_dataset(output / "data", seed=seed)
    say(f"   {data}: 400 images to train on, 30 to validate on, {len(synthetic.CLASS_NAMES)} classes")

    say("[bold]3. Fine-tuning[/]: ExFuse on EfficientNet-Lite0, its backbone trained on ImageNet")
    model, untrained = _train(data, output / "run", steps, seed, callbacks, backbone_weights)
    predictor = Predictor(model)
    trained = _mean_iou(predictor, data)
    say(f"   mean IoU on the validation images: untrained {untrained:.3f}, trained [bold]{trained:.3f}[/]")

    say("[bold]4. New images[/], which it has not seen")
    images = [_unseen(seed, number)[0] for number in range(NUM_UNSEEN)]
    labels = [predictor(image) for image in images]
    overlays = _draw(images, labels, output / "overlays")
    say(f"   overlays with named classes: {overlays}")

    say("[bold]5. Serving[/]: a SavedModel, loaded by a process that has neither keras nor keras_exfuse")
    serving = export_savedmodel(model, output / "serving" / "exfuse" / "1")
    served = _serve(serving, images, output / "run")
    agreement = float(np.mean([np.mean(one == other) for one, other in zip(labels, served, strict=True)]))
    say(f"   the same labels on {100 * agreement:.3f} % of the pixels")
    _say_next(say, output, time.monotonic() - start)
    return {"cat": cat, "untrained": untrained, "trained": trained, "agreement": agreement}


def _clear(output: Path) -> Path:
    """Removes an earlier demo, and nothing else."""
    mark = output / "made-by-keras-exfuse-demo"
    if output.exists() and not mark.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} is there already and not a demo's. Choose another directory with --output."
        )
    for name in ("data", "run", "overlays", "serving"):
        shutil.rmtree(output / name, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return output


def _find_cat(path: Path) -> float:
    """Segments scikit-image's cat and draws it; gives the cat's share of the image."""
    from keras_exfuse import visualize
    from keras_exfuse._files import replace_file
    from keras_exfuse._optional import require
    from keras_exfuse.inference import Predictor
    from keras_exfuse.loading import load

    image, model = require("skimage.data", extra="demo").chelsea(), load(PRESET)
    labels = Predictor(model)(image)
    replace_file(path, visualize.overlay(image, labels, model.class_names).save)
    return float(np.mean(labels == model.class_names.index("cat")))


def _train(data: Path, run: Path, steps: int, seed: int, callbacks, backbone_weights) -> tuple[Any, float]:
    from keras_exfuse.inference import Predictor
    from keras_exfuse.training import Recipe, train

    recipe = Recipe(
        data=str(data),
        num_classes=len(synthetic.CLASS_NAMES),
        class_names=synthetic.CLASS_NAMES,
        backbone="efficientnet_lite0",
        backbone_weights=backbone_weights,
        steps=steps,
        batch_size=8,
        crop_size=160,
        scale=(0.8, 1.25),
        learning_rate=2e-3,
        backbone_learning_rate=5e-4,
        seed=seed,
    )
    untrained = _mean_iou(Predictor(recipe.build_model()), data)
    model, _ = train(recipe, run, callbacks=callbacks, verbose=0)
    return model, untrained


def _mean_iou(predictor, data: Path) -> float:
    from keras_exfuse.data import read_image, read_mask, voc_examples
    from keras_exfuse.inference import evaluate

    examples = voc_examples(data, "val")
    pairs = (
        (read_image(image), read_mask(mask))
        for image, mask in zip(examples.images, examples.masks, strict=True)
    )
    return evaluate(predictor, pairs, len(synthetic.CLASS_NAMES)).mean_iou()


def _unseen(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, 99, number])
    return synthetic.make_image(random, sides=(144, 176), shapes=(3, 5))


def _draw(images: list[np.ndarray], labels: list[np.ndarray], folder: Path) -> Path:
    """Writes the overlays, four times as large."""
    from keras_exfuse import visualize
    from keras_exfuse._files import replace_file

    for number, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        large, large_label = (np.repeat(np.repeat(each, 4, axis=0), 4, axis=1) for each in (image, label))
        drawn = visualize.overlay(
            large,
            large_label,
            synthetic.CLASS_NAMES,
            palette=synthetic.PALETTE,
            title=f"unseen image {number}",
        )
        replace_file(folder / f"unseen_{number}.png", drawn.save)
    return folder


def _serve(serving: Path, images: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    """Labels from the SavedModel in a fresh process."""
    exchange = folder / "exchange"
    exchange.mkdir(parents=True)
    (exchange / "count").write_text(str(len(images)))
    for number, image in enumerate(images):
        np.save(exchange / f"image_{number}.npy", image)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", SERVER, str(serving), str(exchange)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise RuntimeError(f"The server process failed:\n{result.stderr}")
    served = [np.load(exchange / f"labels_{number}.npy") for number in range(len(images))]
    shutil.rmtree(exchange)
    return served


def _say_next(say: Callable[[str], Any], output: Path, seconds: float) -> None:
    command = "keras-exfuse"
    if (Path(".venv") / "bin" / "keras-exfuse").exists():
        command = ".venv/bin/keras-exfuse"
    run = output / "run"
    say(f"\nDone in {seconds:.0f} s. What is where:")
    say(f"  {output}/photograph.png  the cat, found by a trained model")
    say(f"  {output}/data            the data set, in VOC layout")
    say(f"  {run}/model.keras  the model; run.json and log.csv tell how it came about")
    say(f"  {output}/overlays        the new images with their classes")
    say(f"  {output}/serving/exfuse  the SavedModel, for TensorFlow Serving")
    say("\nNext, type:")
    say(f"  {command} evaluate --model {run} --data {output}/data")
    say(f"  {command} predict --model {run} --output {output}/predictions {output}/data/JPEGImages")
    say(
        f"  {command} train --data YOUR_FOLDER --val-split val --output runs/first    (a folder in VOC layout)"
    )
    say(f"  {command} --help")
