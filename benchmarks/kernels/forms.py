"""What each form of a computation brings to a whole model: every form switched off in turn, against all on.

    python -m benchmarks.kernels.forms --backend jax --hardware 2core_epyc

Cases: a prediction and a training step of ExFuse on ResNet-50 at 512x512, on EfficientNet-Lite0 at 256x256, and a
training step on ResNeXt-50, whose convolutions have groups. Predictions are of the fused model. Each variant is a
process of its own (in one process under JAX those that came later took twice the time), and they take turns, step by
step; a row holds the median of the ratios within a round. A form that brings less than 5 % in every case under every
backend is to be deleted.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contest import BACKENDS, Candidate, about, measure, serve, surroundings
from benchmarks.results_file import read_rows, write_rows

RESULTS = Path(__file__).parents[1] / "results"
NUM_CLASSES = 21
AT_ONCE = 3  # Processes that take turns together: what fits into the memory.


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
    import keras

    from keras_exfuse import ExFuse, fuse_for_inference
    from keras_exfuse._kernels import dispatch

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


def rows_of(name: str, backend: str, rounds: int) -> list[dict]:
    """The rows of one case: all forms against each left out, a few at a time."""
    forms, rows = forms_of(CASES[name], backend), []
    for start in range(0, len(forms), AT_ONCE - 1):
        candidates = [
            Candidate(
                form,
                ["-m", "benchmarks.kernels.forms", "--serve", name, form],
                {"KERAS_BACKEND": backend},
            )
            for form in ("", *forms[start : start + AT_ONCE - 1])
        ]
        rows += measure(candidates, rounds, "")[min(start, 1) :]
    return [
        {
            "case": name,
            "backend": backend,
            "without": row["candidate"],
            "ms": row["ms"],
            "times_all_forms": row["times_"],
            "times_all_forms_quartiles": row["times__quartiles"],
            "rounds": rounds,
        }
        for row in rows
    ]


def table(rows: list[dict[str, str]]) -> str:
    """The time without each form, as a multiple of the time with all."""
    rows = [row for row in rows if row["without"]]
    cases = dict.fromkeys(row["case"] for row in rows)
    lines = [f"| without | backend | {' | '.join(cases)} |", f"|---|---|{'---|' * len(cases)}"]
    for form in sorted({row["without"] for row in rows}):
        for backend in BACKENDS:
            some = {row["case"]: row for row in rows if (row["without"], row["backend"]) == (form, backend)}
            if some:
                cells = (
                    f"{float(some[case]['times_all_forms']):.2f}" if case in some else "" for case in cases
                )
                lines.append(f"| `{form}` | {BACKENDS[backend]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", surroundings(rows[0], "kernels/forms.py")])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=BACKENDS, default="tensorflow")
    parser.add_argument("--hardware", help="names the CSV; without it the rows are printed only")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--note", default="little else running")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, form = arguments.serve
        serve(step_of(CASES[name], (form,) if form else ()), {})
        return
    backend = arguments.backend
    notes = about(tuple(dict.fromkeys(("keras", backend, "numpy"))), arguments.note)
    for name in arguments.cases:
        rows = [{**row, **notes} for row in rows_of(name, backend, arguments.rounds)]
        for row in rows:
            print(row["case"], row["without"] or "all forms", row["ms"], row["times_all_forms"], flush=True)
        if arguments.hardware and rows:
            path = RESULTS / f"forms_{arguments.hardware}.csv"
            kept = [row for row in read_rows(path) if (row["case"], row["backend"]) != (name, backend)]
            write_rows(path, [*kept, *rows])


if __name__ == "__main__":
    main()
