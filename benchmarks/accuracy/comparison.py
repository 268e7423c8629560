"""Accuracy at an equal budget: ExFuse, its parts, and other decoders on the same backbone.

Every candidate trains on the same images with the same crops, optimizer and number of steps, and is judged on
every validation image at its own size. The budget is fixed in `BUDGETS`; a run is one candidate with one seed.
An interrupted run goes on where it was, and a finished one is not run again, so the script can be stopped and
started. Each run leaves a row in `results/accuracy.HARDWARE.csv` and, in `results/accuracy/`, its confusion matrix of
every image, from which `python -m benchmarks.accuracy.table` makes the table, the intervals and the plot.

    python -m benchmarks.accuracy.comparison animals ../shared/data/voc2012_animals --candidates exfuse gcn --seeds 0 1
    python -m benchmarks.accuracy.comparison camvid ../shared/data/camvid
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.table import JUDGED, mean_iou
from benchmarks.networks import macs
from benchmarks.results_file import read_rows, write_rows
from benchmarks.timing import StepTimer
from keras_exfuse import ExFuse, data, losses, metrics
from keras_exfuse.training import AdamW, WarmupPolynomialDecay

RESULTS = Path(__file__).parents[1] / "results"
BACKBONE, WEIGHTS, CROP, BATCH, STRIDE = "efficientnet_lite0", "imagenet", 256, 8, 32
AUGMENTATION = data.Augmentation(CROP, scale=(0.75, 1.5), flip=True)
STEPS_OF_A_PASS = 50  # After each of them the state is stored.

OFF = {
    "semantic_embedding": False,
    "channel_resolution_embedding": False,
    "densely_adjacent_prediction": False,
}
SWITCHES: dict[str, dict[str, Any]] = {
    "gcn": OFF,
    "gcn_seb": {**OFF, "semantic_embedding": True},
    "gcn_seb_separable": {**OFF, "semantic_embedding": True, "embedding_convolution": "separable"},
    "gcn_ecre": {**OFF, "channel_resolution_embedding": True},
    "gcn_dap": {**OFF, "densely_adjacent_prediction": True},
    "exfuse": {},
    "exfuse_separable": {"embedding_convolution": "separable"},
    "exfuse_bottleneck": {"embedding_convolution": "bottleneck"},
    "exfuse_semantic_supervision": {"semantic_supervision": True},
    "exfuse_kernels_7_7_15_15": {"kernel_size": (7, 7, 15, 15)},
}
CANDIDATES = (*SWITCHES, *PEERS)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What all candidates get on one data set."""

    split: str
    num_classes: int
    steps: int


BUDGETS = {
    "animals": Budget("trainaug", 21, 1300),
    "camvid": Budget("train", 11, 900),
}


def build(candidate: str, num_classes: int) -> keras.Model:
    """A candidate with the ImageNet backbone and a decoder drawn from the seed."""
    if candidate in SWITCHES:
        return ExFuse(num_classes, backbone=BACKBONE, backbone_weights=WEIGHTS, **SWITCHES[candidate])
    return PEERS[candidate](num_classes, BACKBONE, WEIGHTS)


def compiled(candidate: str, budget: Budget) -> keras.Model:
    """A candidate with the optimizer and the loss of the comparison."""
    model = build(candidate, budget.num_classes)
    schedule = WarmupPolynomialDecay(5e-4, budget.steps, warmup_steps=50, power=0.9)
    backbone = [variable.path for variable in model.backbone.trainable_variables]
    optimizer = AdamW(schedule, backbone_lr_multiplier=3e-4 / 5e-4, paths=backbone, weight_decay=0.01)
    loss = losses.ExFuseLoss() if isinstance(model, ExFuse) else losses.CrossEntropy()
    model.compile(optimizer=optimizer, loss=loss, metrics=[])
    optimizer.build(model.trainable_variables)
    return model


def train(candidate: str, seed: int, folder: Path, budget: Budget, state: Path) -> tuple[keras.Model, dict]:
    """Train one candidate; give it with its costs."""
    keras.utils.set_random_seed(seed)
    model = compiled(candidate, budget)
    passes, done = -(-budget.steps // STEPS_OF_A_PASS), finished_passes(state)
    batches = data.voc_folder(
        folder,
        budget.split,
        num_classes=budget.num_classes,
        batch_size=BATCH,
        augmentation=AUGMENTATION,
        shuffle=True,
        seed=seed + 1000 * done,  # After an interruption not the beginning of the same order again.
        drop_remainder=True,
    )
    timer = StepTimer()
    history = model.fit(
        batches.repeat(),
        steps_per_epoch=STEPS_OF_A_PASS,
        epochs=passes,
        shuffle=False,  # The pipeline shuffles.
        callbacks=[keras.callbacks.BackupAndRestore(str(state), double_checkpoint=True), timer],
        verbose=2,
    )
    return model, {
        "steps": passes * STEPS_OF_A_PASS,
        "parameters": model.count_params(),
        "macs_256": macs.total(macs.count(model, CROP, CROP)),
        "seconds_per_step": round(float(np.median(timer.seconds)), 3),
        "final_loss": round(history.history["loss"][-1], 4),
    }


def trained(
    candidate: str, seed: int, folder: Path, budget: Budget, state: Path
) -> tuple[keras.Model, dict, list[Path]]:
    """Train one candidate, or take it as an evaluation that failed left it; with its costs and the files of it."""
    weights, told = (state.parent / f"{state.name}{suffix}" for suffix in (".weights.h5", ".json"))
    if told.exists():
        model = build(candidate, budget.num_classes)
        model.load_weights(weights)
        return model, json.loads(told.read_text()), [weights, told]
    model, costs = train(candidate, seed, folder, budget, state)
    weights.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(weights)
    told.write_text(json.dumps(costs))  # The last: where it is, the weights are whole.
    return model, costs, [weights, told]


def finished_passes(state: Path) -> int:
    """How many passes the stored state has behind it."""
    try:
        return int(json.loads((state / "training_metadata.json").read_text())["epoch"])
    except FileNotFoundError:
        return 0


def evaluate(
    predict: Callable, examples: Iterable, budget: Budget, judged: tuple[int, ...]
) -> tuple[np.ndarray, dict]:
    """The confusion matrix of every example, image and mask in a batch of one at their own size, and the scores."""
    near = metrics.TrimapAccuracy(budget.num_classes, region="boundary")
    far = metrics.TrimapAccuracy(budget.num_classes, region="interior")
    matrices, seconds = [], []
    for image, mask in examples:
        begin = time.perf_counter()
        labels = predict(image)
        seconds.append(time.perf_counter() - begin)
        matrices.append(confusion(mask[0], labels[0], budget.num_classes))
        near.update_state(mask, labels)
        far.update_state(mask, labels)
    total = np.sum(matrices, axis=0)
    iou = metrics.iou_per_class(total)
    return np.stack(matrices), {
        "images": len(matrices),
        "mean_iou": round(float(mean_iou(total, judged)), 4),
        "boundary_accuracy": round(float(near.result()), 4),
        "interior_accuracy": round(float(far.result()), 4),
        "seconds_per_image": round(float(np.median(seconds)), 3),
        **{f"iou_{number}": round(float(value), 4) for number, value in enumerate(iou)},
    }


def confusion(mask: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C, C), rows the truth."""
    known = mask != losses.IGNORE_CLASS
    cells = num_classes * mask[known].astype(np.int64) + labels[known]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int32)


def labeller(model: keras.Model, logits: Callable | None = None) -> Callable:
    """Labels of an image at its own size; the border that makes its sides multiples of 32 is cut off again.

    Args:
        model: A network.
        logits: Computes it for a batch; by default its `call`, without a graph.
    """

    def predict(image: np.ndarray) -> np.ndarray:
        _, height, width, _ = image.shape
        padded = np.full(
            (1, -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, 3),
            data.MEAN_COLOR_UINT8,
            np.uint8,
        )
        padded[:, :height, :width] = image
        # Not `predict_on_batch`: that makes a graph of unknown sizes for the second size, in which KerasHub's decoder
        # does not run under TensorFlow.
        scores = keras.ops.convert_to_numpy(logits(padded) if logits else model(padded, training=False))
        return np.argmax(scores[:, :height, :width], axis=-1)

    return predict


def run(arguments: argparse.Namespace, candidate: str, seed: int) -> None:
    """One run, unless it has been done: train, evaluate, store the matrices, then the row."""
    budget, table = BUDGETS[arguments.dataset], RESULTS / f"accuracy.{arguments.hardware}.csv"
    wanted = {"dataset": arguments.dataset, "candidate": candidate, "seed": str(seed)}
    if any(all(row[name] == value for name, value in wanted.items()) for row in read_rows(table)):
        return
    name = f"{arguments.dataset}.{candidate}.seed{seed}"
    state = arguments.states / name
    model, costs, files = trained(candidate, seed, arguments.folder, budget, state)
    examples = data.voc_folder(arguments.folder, "val", num_classes=budget.num_classes, batch_size=1)
    judged = JUDGED[arguments.dataset]
    matrices, scores = evaluate(labeller(model), examples.as_numpy_iterator(), budget, judged)
    (RESULTS / "accuracy").mkdir(exist_ok=True)
    np.savez_compressed(RESULTS / "accuracy" / f"{name}.npz", confusion=matrices)
    if arguments.models:
        model.save(arguments.models / f"{name}.keras")
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "note": arguments.note,
    }
    classes = [f"iou_{number}" for number in range(max(each.num_classes for each in BUDGETS.values()))]
    row = {**wanted, **costs, **dict.fromkeys(classes, ""), **scores, **about}
    write_rows(table, [*read_rows(table), row])  # Read again: other processes write here too.
    shutil.rmtree(state, ignore_errors=True)
    for file in files:
        file.unlink()
    print(row, flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=BUDGETS)
    parser.add_argument("folder", type=Path, help="the data set, in VOC layout")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=CANDIDATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--hardware", default="2core_xeon", help="for the name of the table")
    parser.add_argument("--states", type=Path, default=Path("runs/accuracy"), help="for interrupted runs")
    parser.add_argument("--models", type=Path, help="a folder for the trained models")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for candidate in arguments.candidates:
            run(arguments, candidate, seed)


if __name__ == "__main__":
    main()
