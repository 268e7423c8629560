"""What each form of a computation brings to a whole model: every form switched off in turn, against all on.

    KERAS_BACKEND=jax python -m benchmarks.kernels.forms --hardware 2core_epyc

Cases: a prediction and a training step of ExFuse on ResNet-50 at 512x512, on EfficientNet-Lite0 at 256x256, and a
training step on ResNeXt-50, whose convolutions have groups. Predictions are of the fused model. All variants are built
in one process and take turns, step by step; a row holds the median of the ratios within a round. A form that brings
less than 5 % in every case under every backend is to be deleted.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.contest import about, quartiles
from benchmarks.results_file import read_rows, write_rows
from benchmarks.timing import seconds_in_turns
from keras_exfuse import ExFuse, fuse_for_inference
from keras_exfuse._kernels import dispatch

RESULTS = Path(__file__).parents[1] / "results"
NUM_CLASSES = 21
BACKEND = keras.backend.backend()


@dataclasses.dataclass(frozen=True)
class Setting:
    """A whole model and what it does."""

    backbone: str
    side: int
    batch: int
    training: bool
    # Forms that this case is about; without them it measures those that apply.
    forms: tuple[str, ...]


PREDICTION = ("patches", "winograd", "pointwise", "channels_last", "shuffle", "shifted_products")
TRAINING = (
    "patches",
    "pointwise",
    "filter_gradients",
    "channels_last",
    "shuffle",
    "shifted_products",
    "fused_normalization",
)
CASES = {
    "ResNet-50, 512, prediction": Setting("resnet50", 512, 1, False, PREDICTION),
    "Lite0, 256, prediction": Setting("efficientnet_lite0", 256, 1, False, PREDICTION),
    "Lite0, 256, training": Setting("efficientnet_lite0", 256, 8, True, TRAINING),
    "ResNet-50, 512, training": Setting("resnet50", 512, 1, True, TRAINING),
    "ResNeXt-50, 64, training": Setting("resnext50_32x4d", 64, 2, True, ("native_groups", "blocks")),
}
# Where a form can apply at all: elsewhere nothing is built for it.
UNDER = {
    "patches": ("tensorflow", "jax", "torch"),
    "winograd": ("tensorflow", "jax", "torch"),
    "native_groups": ("tensorflow",),
    "blocks": ("jax",),
    "pointwise": ("jax",),
    "filter_gradients": ("jax",),
    "shifted_products": ("jax",),
    "shuffle": ("jax", "torch"),
    "channels_last": ("torch",),
    "fused_normalization": ("tensorflow", "torch"),
}


def forms_of(setting: Setting, backend: str) -> list[str]:
    """The forms that are switched off in turn."""
    lite = setting.backbone.startswith("efficientnet")
    return [form for form in setting.forms if backend in UNDER[form] and (form != "shifted_products" or lite)]


def step_of(setting: Setting, off: tuple[str, ...]) -> Callable[[], object]:
    """One prediction or training step of a new model without some forms."""
    random = np.random.default_rng(0)
    side, batch = setting.side, setting.batch
    images = random.integers(0, 256, (batch, side, side, 3)).astype("float32")
    masks = random.integers(0, NUM_CLASSES, (batch, side, side)).astype("int32")
    keras.utils.set_random_seed(0)
    with dispatch.without(*off):
        model = ExFuse(NUM_CLASSES, backbone=setting.backbone)
        if setting.training:
            model.compile(optimizer=keras.optimizers.SGD(1e-4), metrics=[])
        else:
            model = fuse_for_inference(model)

    def step():
        # PyTorch chooses at every call, the others when they trace.
        with dispatch.without(*off):
            return model.train_on_batch(images, masks) if setting.training else model.predict_on_batch(images)

    return step


def measure(name: str, rounds: int, notes: dict) -> list[dict]:
    """The rows of one case."""
    setting = CASES[name]
    steps = {form: step_of(setting, (form,)) for form in forms_of(setting, BACKEND)}
    if not steps:
        return []
    seconds = seconds_in_turns({"all": step_of(setting, ()), **steps}, rounds)
    rows = []
    for form, times in seconds.items():
        ratios = [mine / base for mine, base in zip(times, seconds["all"], strict=True)]
        low, middle, high = quartiles(ratios)
        rows.append(
            {
                "case": name,
                "backend": BACKEND,
                "without": "" if form == "all" else form,
                "ms": f"{1000 * statistics.median(times):.1f}",
                "times_all_forms": f"{middle:.3f}",
                "times_all_forms_quartiles": f"{low:.3f} {high:.3f}",
                "rounds": rounds,
                **notes,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", help="names the CSV; without it the rows are printed only")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--note", default="little else running")
    arguments = parser.parse_args()
    notes = about(("keras", BACKEND, "numpy"), arguments.note)
    for name in arguments.cases:
        rows = measure(name, arguments.rounds, notes)
        for row in rows:
            print(row["case"], row["without"] or "all forms", row["ms"], row["times_all_forms"], flush=True)
        if arguments.hardware and rows:
            path = RESULTS / f"forms_{arguments.hardware}.csv"
            kept = [row for row in read_rows(path) if (row["case"], row["backend"]) != (name, BACKEND)]
            write_rows(path, [*kept, *rows])
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
