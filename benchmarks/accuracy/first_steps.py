"""The first training steps of ExFuse and of its peers: which of them explode.

Every candidate takes the same 50 batches of 4 crops of 96x96 from CamVid, with three optimizers and two backbones. No
schedule, no warm-up, no clipping: what everybody types first. The candidates are compared by the cross-entropy of the
labelled pixels; what ExFuse optimizes, its auxiliary losses included, stands in columns of its own. Each run adds a row
to `results/first_steps_HARDWARE.csv`. A run whose row is already there is skipped, so the script can be stopped and
started.

    python -m benchmarks.accuracy.first_steps CAMVID_FOLDER --seeds 0 1 2
"""

import argparse
import dataclasses
import functools
import gc
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks import contest
from benchmarks.accuracy import peers
from benchmarks.results_file import read_rows, write_rows
from keras_exfuse import GCN, ExFuse, data, losses
from keras_exfuse._constants import MEAN_COLOR
from keras_exfuse.backbones.normalization import IMAGENET_STANDARD_DEVIATION
from keras_exfuse.backbones.readers import read_tensors
from keras_exfuse.backbones.weights import imagenet_weights

RESULTS = Path(__file__).parents[1] / "results"
NUM_CLASSES, STEPS, BATCH, CROP = 11, 50, 4, 96

KERAS_MODELS = {
    "exfuse": ExFuse,
    "exfuse_unscaled": functools.partial(ExFuse, embedding_scaled=False),
    "exfuse_normalized": functools.partial(ExFuse, embedding_normalization=True),
    "gcn": GCN,
    "deeplab_v3_plus_kerashub": peers.deeplab_v3_plus,
}
SMP = "deeplab_v3_plus_smp"
CANDIDATES = (*KERAS_MODELS, SMP)
NAMES = {
    "exfuse": "**ExFuse**",
    "exfuse_unscaled": "ExFuse, `embedding_scaled=False`",
    "exfuse_normalized": "ExFuse, `embedding_normalization=True`",
    "gcn": "GCN",
    "deeplab_v3_plus_kerashub": "KerasHub's DeepLabV3+",
    "deeplab_v3_plus_smp": "segmentation_models.pytorch's DeepLabV3+",
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone, its weights, and what segmentation_models.pytorch calls it and has to be given."""

    title: str
    weights: str | None
    smp_name: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


BACKBONES = {
    "resnet50": Backbone("ResNet-50, random", None, "resnet50", MEAN_COLOR, IMAGENET_STANDARD_DEVIATION),
    "efficientnet_lite0": Backbone(
        "Lite0, ImageNet", "imagenet", "timm-tf_efficientnet_lite0", (127.0,) * 3, (128.0,) * 3
    ),
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer that has the same name and arguments in Keras and in torch."""

    kind: str
    learning_rate: float
    options: dict[str, float] = dataclasses.field(default_factory=dict)


OPTIMIZERS = {
    "adam_1e-3": Optimizer("Adam", 1e-3),
    "adam_1e-4": Optimizer("Adam", 1e-4),
    "sgd_1e-2": Optimizer("SGD", 1e-2, {"momentum": 0.9}),
}
OPTIMIZER_TITLES = {"adam_1e-3": "Adam 1e-3", "adam_1e-4": "Adam 1e-4", "sgd_1e-2": "SGD 0.01, momentum 0.9"}

Batches = list[tuple[np.ndarray, np.ndarray]]
Losses = Iterator[tuple[float, float]]  # What is optimized and the cross-entropy, of each step.


# === The steps ===


@functools.cache
def crops(folder: Path, seed: int) -> Batches:
    """The batches of a seed, the same for every candidate."""
    dataset = data.voc_folder(
        folder,
        "train",
        num_classes=NUM_CLASSES,
        batch_size=BATCH,
        augmentation=data.Augmentation(CROP, scale=(0.75, 1.5), flip=True),
        shuffle=True,
        seed=seed,
        drop_remainder=True,
    )
    return list(dataset.repeat().take(STEPS).as_numpy_iterator())


def keras_losses(model: keras.Model, optimizer: Optimizer, batches: Batches) -> Losses:
    """Train a Keras model, a step for each batch."""
    objective = losses.ExFuseLoss() if isinstance(model, ExFuse) else losses.CrossEntropy()
    model.compile(
        optimizer=getattr(keras.optimizers, optimizer.kind)(optimizer.learning_rate, **optimizer.options),
        loss=objective,
        metrics=[keras.metrics.MeanMetricWrapper(losses.CrossEntropy(), name="cross_entropy")],
    )
    for images, masks in batches:
        model.reset_metrics()  # Else they are means over all steps so far.
        found = model.train_on_batch(images, masks, return_dict=True)
        yield float(found["loss"]), float(found["cross_entropy"])


def smp_losses(backbone: Backbone, name: str, optimizer: Optimizer, batches: Batches) -> Losses:
    """Train segmentation_models.pytorch's DeepLabV3+ in torch itself, a step for each batch."""
    import torch

    network = smp_network(backbone, name).train()
    update = getattr(torch.optim, optimizer.kind)(
        network.parameters(), optimizer.learning_rate, **optimizer.options
    )
    for images, masks in batches:
        normalized = (np.float32(images) - np.float32(backbone.mean)) / np.float32(backbone.deviation)
        logits = network(torch.from_numpy(normalized).permute(0, 3, 1, 2))
        labels = torch.from_numpy(masks.astype("int64"))
        loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=losses.IGNORE_CLASS)
        update.zero_grad()
        loss.backward()
        update.step()
        yield loss.item(), loss.item()


def smp_network(backbone: Backbone, name: str) -> Any:
    """The network as a torch module, with the weights that the Keras backbone of that name has."""
    import torch

    from benchmarks.networks import torch_candidates
    from benchmarks.networks.worker import Setting

    torch_candidates.load_libraries()
    network = torch_candidates.NETWORKS[SMP](Setting(backbone=backbone.smp_name, classes=NUM_CLASSES))
    if backbone.weights:
        # The file has other names, but the same order; the last two are the classifier's.
        tensors = read_tensors(imagenet_weights(name)).values()
        network.encoder.load_state_dict(
            {
                key: torch.from_numpy(np.asarray(tensor))
                for key, tensor in zip(network.encoder.state_dict(), tensors, strict=False)
            }
        )
    return network


def summary(steps: Iterable[tuple[float, float]]) -> dict[str, object]:
    """First, largest and last value of both losses; the training ends at the first that is not finite."""
    found: list[tuple[float, float]] = []
    for values in steps:
        found.append(values)
        if not np.isfinite(values).all():
            break
    row: dict[str, object] = {"steps": len(found), "nan": not np.isfinite(found[-1]).all()}
    for name, series in zip(("loss", "cross_entropy"), np.transpose(found), strict=True):
        finite = series[np.isfinite(series)]
        row |= {
            f"first_{name}": f"{series[0]:.4f}",
            f"largest_{name}": f"{finite.max():.4f}" if len(finite) else "nan",
            f"last_{name}": f"{series[-1]:.4f}",
        }
    return row


# === The runs ===


def measure(folder: Path, candidate: str, backbone: str, optimizer: str, seed: int) -> dict[str, object]:
    """Train one candidate; give what is recorded of it but for the machine."""
    batches, settings = crops(folder, seed), BACKBONES[backbone]
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    if candidate == SMP:
        import torch

        torch.manual_seed(seed)
        row = summary(smp_losses(settings, backbone, OPTIMIZERS[optimizer], batches))
    else:
        model = KERAS_MODELS[candidate](NUM_CLASSES, backbone=backbone, **_weights(candidate, settings))
        row = summary(keras_losses(model, OPTIMIZERS[optimizer], batches))
    return {**row, "seconds": f"{time.perf_counter() - start:.0f}"}


def _weights(candidate: str, backbone: Backbone) -> dict[str, str | None]:
    argument = "weights" if candidate in peers.PEERS else "backbone_weights"
    return {argument: backbone.weights}


def packages(candidate: str) -> tuple[str, ...]:
    """The packages whose versions matter to a candidate."""
    if candidate == SMP:
        return ("torch", "segmentation-models-pytorch", "timm")
    hub = ("keras-hub",) if "kerashub" in candidate else ()
    backend = keras.backend.backend()
    return ("keras", *hub, backend)


def run(arguments: argparse.Namespace, candidate: str, backbone: str, optimizer: str, seed: int) -> None:
    """One run, unless it has been done: train, then write the row."""
    file = RESULTS / f"first_steps_{arguments.hardware}.csv"
    wanted = {"candidate": candidate, "backbone": backbone, "optimizer": optimizer, "seed": str(seed)}
    if any(all(row[name] == value for name, value in wanted.items()) for row in read_rows(file)):
        return
    row = {
        **wanted,
        **measure(arguments.folder, candidate, backbone, optimizer, seed),
        "backend": "torch" if candidate == SMP else keras.backend.backend(),
        **contest.about(packages(candidate), arguments.note),
    }
    write_rows(file, [*read_rows(file), row])
    print(row, flush=True)
    keras.utils.clear_session()
    gc.collect()


# === The table ===


def table(rows: list[dict[str, str]]) -> str:
    """Largest and last cross-entropy of every candidate, medians over the seeds, in Markdown."""
    columns = [(backbone, optimizer) for backbone in BACKBONES for optimizer in OPTIMIZERS]
    titles = [
        f"{BACKBONES[backbone].title}: {OPTIMIZER_TITLES[optimizer]}" for backbone, optimizer in columns
    ]
    runs: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        runs.setdefault((row["candidate"], row["backbone"], row["optimizer"]), []).append(row)
    seeds = max(map(len, runs.values()))
    lines = [f"| network | {' | '.join(titles)} |", f"|---|{'---|' * len(columns)}"]
    for candidate in CANDIDATES:
        cells = [_cell(runs.get((candidate, *column), []), seeds) for column in columns]
        if any(cells):
            lines.append(f"| {NAMES[candidate]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _caption(rows, seeds)])


def _cell(runs: list[dict[str, str]], seeds: int) -> str:
    if not runs:
        return ""
    largest, last = (_median(runs, which) for which in ("largest", "last"))
    text = "NaN" if largest == "NaN" else f"{largest}, {last}"
    return text if len(runs) == seeds else f"{text} ({len(runs)} of {seeds} seeds)"


def _median(runs: list[dict[str, str]], which: str) -> str:
    """The median of a column; a training that ended in NaN counts as infinite."""
    values = [float("inf") if row["nan"] == "True" else float(row[f"{which}_cross_entropy"]) for row in runs]
    median = float(np.median(values))
    if not np.isfinite(median):
        return "NaN"
    return f"{median:,.0f}" if median >= 100 else f"{median:.2f}"


def _caption(rows: list[dict[str, str]], seeds: int) -> str:
    versions = dict.fromkeys(
        f"{name} {version}"
        for row in rows
        for name, version in zip(row["versions"].split()[::2], row["versions"].split()[1::2], strict=True)
    )
    machines = dict.fromkeys(f"{row['machine']}, {row['cores']} cores" for row in rows)
    backends = dict.fromkeys(row["backend"] for row in rows)
    dates = sorted({row["date"] for row in rows})
    notes = "; ".join(dict.fromkeys(row["note"] for row in rows if row["note"]))
    return (
        f"Cross-entropy of the labelled pixels in {STEPS} steps of {BATCH} crops of {CROP}x{CROP} of CamVid: the "
        f"largest, and the last; medians over {seeds} seeds. Backend {', '.join(backends)}; {', '.join(versions)}; "
        f"{'; '.join(machines)}{f', {notes}' if notes else ''}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))} "
        "(`benchmarks/accuracy/first_steps.py`)."
    )


def main() -> None:
    """Parse, run what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="CamVid, in VOC layout")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=CANDIDATES)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--hardware", default="2core_epyc", help="for the name of the results file")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for backbone in arguments.backbones:
            for candidate in arguments.candidates:
                for optimizer in arguments.optimizers:
                    run(arguments, candidate, backbone, optimizer, seed)
    print(table(read_rows(RESULTS / f"first_steps_{arguments.hardware}.csv")))


if __name__ == "__main__":
    main()
