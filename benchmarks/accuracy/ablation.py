"""What the paper leaves open, measured: one short training for each variant, on real images.

Each row trains ExFuse on the ImageNet-trained EfficientNet-Lite0 for the same number of steps from the same
seed and evaluates every validation image at its own size. The budget is small, so differences under a point
or two are noise; the rows guide the choice of defaults, they are no ranking. A row that is already in the
CSV is not run again, so the script can be stopped and started.

    python -m benchmarks.accuracy.ablation VOC_FOLDER --steps 300
"""

import argparse
import os
import pathlib
import platform
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_exfuse
from benchmarks.results_file import read_rows, write_rows
from benchmarks.timing import StepTimer
from keras_exfuse import data
from keras_exfuse.training.schedules import WarmupPolynomialDecay

# The seven classes that the animal-biased subset of VOC 2012 covers well.
COVERED_CLASSES = (0, 8, 10, 12, 13, 15, 17)

OFF = {
    "semantic_embedding": False,
    "channel_resolution_embedding": False,
    "densely_adjacent_prediction": False,
}
VARIANTS = {
    "default": {},
    "gcn_baseline": {**OFF},
    "only_channel_resolution": {**OFF, "channel_resolution_embedding": True},
    "only_embedding": {**OFF, "semantic_embedding": True},
    "embedding_and_adjacent": {"channel_resolution_embedding": False},
    "kernel_3": {"kernel_size": 3},
    "kernel_15": {"kernel_size": 15},
    "decoder_random_init": {"decoder_init": "random"},
    "embedding_random_init": {"embedding_init": "random"},
    "embedding_normalization": {"embedding_normalization": True},
    "embedding_normalization_random": {"embedding_normalization": True, "embedding_init": "random"},
    "expansion_global_convolution": {"expansion": "global_convolution"},
    "refinement_before_grouped": {"refinement": "before_grouped"},
    "refinement_before": {"refinement": "before"},
    "adjacent_channels_all": {"adjacent_channels": "all"},
    "no_adjacent_prediction": {"densely_adjacent_prediction": False},
    "semantic_supervision": {"semantic_supervision": True},
    "label_resolution_image": {"loss": {"label_resolution": "image"}},
    "channel_resolution_weight_0": {"loss": {"channel_resolution_weight": 0.0}},
    "channel_resolution_weight_01": {"loss": {"channel_resolution_weight": 0.1}},
    "channel_resolution_weight_1": {"loss": {"channel_resolution_weight": 1.0}},
}


def train(root, variant, arguments):
    """Train one reading and return its row."""
    keras.utils.set_random_seed(arguments.seed)
    options = dict(VARIANTS[variant])
    loss = keras_exfuse.losses.ExFuseLoss(**options.pop("loss", {}))
    model = keras_exfuse.ExFuse(21, backbone="efficientnet_lite0", backbone_weights="imagenet", **options)
    # Adam's first steps are of one size whatever the gradient, and SEB's factors sum over thousands of inputs.
    schedule = WarmupPolynomialDecay(arguments.learning_rate, arguments.steps, arguments.warmup_steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01)
    model.compile(optimizer=optimizer, loss=loss, metrics=[])
    dataset = data.voc_folder(
        root,
        "trainaug",
        batch_size=arguments.batch_size,
        augmentation=data.Augmentation(crop_size=arguments.crop, scale=(0.75, 1.5)),
        shuffle=True,
        seed=arguments.seed,
    ).repeat()
    timer = StepTimer()
    history = model.fit(
        dataset, steps_per_epoch=arguments.steps, epochs=1, shuffle=False, verbose=2, callbacks=[timer]
    )
    counts = evaluate(model, root)
    iou = keras_exfuse.metrics.iou_per_class(counts)
    return {
        "variant": variant,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "warmup_steps": arguments.warmup_steps,
        "batch": arguments.batch_size,
        "crop": arguments.crop,
        "learning_rate": arguments.learning_rate,
        "mean_iou_7": round(float(np.nanmean(iou[list(COVERED_CLASSES)])), 4),
        "mean_iou_21": round(float(np.nanmean(iou)), 4),
        "parameters": model.count_params(),
        "seconds_per_step": round(float(np.median(timer.seconds)), 3),
        "final_loss": round(history.history["loss"][-1], 4),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other jobs",
    }


def evaluate(model, root):
    """The confusion matrix over the validation images, each at its own size."""
    matrix = keras_exfuse.metrics.ConfusionMatrix(21)
    for images, masks in data.voc_folder(root, "val", batch_size=1):
        matrix.update_state(masks.numpy(), model.predict_on_batch(images.numpy()))
    return matrix.counts()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=pathlib.Path, help="folder in VOC layout with splits trainaug and val")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warmup-steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parents[1] / "results" / "ablation.cpu-2cores.csv",
    )
    arguments = parser.parse_args()
    keys = ("variant", "seed", "steps", "batch", "crop", "learning_rate")
    for variant in arguments.variants:
        wanted = (
            variant,
            arguments.seed,
            arguments.steps,
            arguments.batch_size,
            arguments.crop,
            arguments.learning_rate,
        )
        done = read_rows(arguments.output)
        if tuple(map(str, wanted)) in {tuple(row[key] for key in keys) for row in done}:
            print(f"{variant}: already there", file=sys.stderr)
            continue
        row = train(arguments.root, variant, arguments)
        print(row)
        write_rows(arguments.output, [*done, row])


if __name__ == "__main__":
    main()
