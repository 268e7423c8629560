"""The device's numbers against the CPU's: every layer, every form, whole models and a training step.

Started by `python -m benchmarks.gpu`, twice for each backend: `--reference` computes on a CPU, in float32 and by
Keras's own operations without any form; the other process computes on the device, in float32 without TF32 and in
bfloat16, and compares. Weights and inputs come from numpy, so that both have the same.
"""

import argparse
import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.contest import about
from benchmarks.gpu import device
from benchmarks.gpu import plan as planning
from benchmarks.gpu.device import BACKEND
from benchmarks.gpu.plan import Plan, tell
from benchmarks.kernels import forms
from keras_exfuse import ExFuse, fuse_for_inference, layers
from keras_exfuse._kernels import BatchNormalization, Conv2D, DepthwiseConv2D, dispatch
from keras_exfuse._kernels.winograd import WinogradConv2D

PRECISIONS = ("float32", "mixed_bfloat16")
# Of what is computed forward, and of gradients: norm of the difference by norm of the expected numbers. Whole networks
# in bfloat16 are 0.012 from float32 on a CPU, too. A ReLU whose input is near zero may let a gradient pass in one
# precision and not in the other; in a training step, with batch normalization of few values, that is most of it.
LIMITS = {("layer", "float32"): (1e-3, 1e-3), ("layer", "mixed_bfloat16"): (1e-2, 1e-1)}
LIMITS |= {("network", "float32"): (1e-3, 1e-3), ("network", "mixed_bfloat16"): (3e-2, np.inf)}
# Outputs and gradients.
Numbers = tuple[np.ndarray, list[np.ndarray]]
SMALL, LARGE = (2, 8, 8), (2, 32, 32)


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer and its inputs.

    Args:
        make: Makes the layer.
        shapes: Of its input or inputs.
        forms: What it can be computed by, on the backends that have them.
        scale: Standard deviation of the inputs.
    """

    make: Callable[[], keras.Layer]
    shapes: tuple[tuple[int, ...], ...]
    forms: tuple[str, ...] = ()
    scale: float = 1.0


def _convolution(shape, filters, kernel_size, *forms, **options) -> LayerCase:
    return LayerCase(lambda: Conv2D(filters, kernel_size, **options), (shape,), forms)


LAYERS = {
    "BilinearResize": LayerCase(layers.BilinearResize, ((*SMALL, 64), (2, 19, 16, 1))),
    "BoundaryRefinement": LayerCase(lambda: layers.BoundaryRefinement(init="random"), ((*LARGE, 21),)),
    "ChannelResolutionEmbedding": LayerCase(lambda: layers.ChannelResolutionEmbedding(21), ((*SMALL, 21),)),
    "CropLike": LayerCase(layers.CropLike, ((2, 9, 9, 8), (*SMALL, 1))),
    "Deconvolution": LayerCase(lambda: layers.Deconvolution(21), ((*LARGE, 21),), ("shuffle",)),
    "DenselyAdjacentDeconvolution": LayerCase(
        lambda: layers.DenselyAdjacentDeconvolution(21), ((*LARGE, 21),), ("shuffle",)
    ),
    "DenselyAdjacentPrediction": LayerCase(lambda: layers.DenselyAdjacentPrediction(21), ((*LARGE, 189),)),
    "GlobalConvolution": LayerCase(
        lambda: layers.GlobalConvolution(21, 7), ((*LARGE, 256),), ("filter_gradients", "channels_last")
    ),
    "PadToMultiple": LayerCase(lambda: layers.PadToMultiple(32), ((2, 20, 33, 3),), scale=100),
    "SemanticEmbeddingBranch": LayerCase(
        lambda: layers.SemanticEmbeddingBranch(init="random"),
        ((2, 16, 16, 256), (*SMALL, 512)),
        ("patches",),
    ),
    "SemanticSupervisionHead": LayerCase(lambda: layers.SemanticSupervisionHead(21), ((*SMALL, 64),)),
    "BatchNormalization": LayerCase(BatchNormalization, ((*LARGE, 64),), ("fused_normalization",)),
    "Conv2D 3x3": _convolution((*LARGE, 64), 64, 3, "channels_last", padding="same"),
    "Conv2D 3x3, stride 2": _convolution((2, 33, 33, 64), 64, 3, "channels_last", strides=2),
    "Conv2D 3x3, dilation 2": _convolution(
        (*LARGE, 64), 64, 3, "channels_last", padding="same", dilation_rate=2
    ),
    "Conv2D 3x3, 1024 channels": _convolution((*SMALL, 1024), 1024, 3, "patches", padding="same"),
    "Conv2D 1x1": _convolution((*LARGE, 256), 64, 1, "pointwise", "channels_last"),
    "Conv2D 1x1, stride 2": _convolution((*LARGE, 256), 64, 1, "pointwise", "channels_last", strides=2),
    "Conv2D 7x1, 21 filters": _convolution((*LARGE, 64), 21, (7, 1), "filter_gradients", padding="same"),
    "Conv2D, 32 groups": _convolution(
        (*LARGE, 128), 128, 3, "blocks", "channels_last", padding="same", groups=32
    ),
    "Conv2D, 32 groups, stride 2": _convolution((2, 33, 33, 128), 256, 3, "blocks", strides=2, groups=32),
    "DepthwiseConv2D 3x3": LayerCase(
        lambda: DepthwiseConv2D(3, padding="same"), ((*LARGE, 96),), ("shifted_products",)
    ),
    "DepthwiseConv2D 5x5, stride 2": LayerCase(
        lambda: DepthwiseConv2D(5, strides=2), ((2, 35, 35, 96),), ("shifted_products",)
    ),
    "WinogradConv2D": LayerCase(lambda: WinogradConv2D(64), ((*SMALL, 2048),)),
}


# === What is computed, on either side ===


@dataclasses.dataclass(frozen=True)
class Check:
    """Numbers to compare, and the form that makes them on the device."""

    what: str
    precision: str
    form: str
    kind: str
    compute: Callable[[], Numbers]

    @property
    def file(self) -> str:
        """Where the CPU's numbers are; they know no form and no precision."""
        return re.sub(r"\W+", "_", self.what) + ".npz"


def checks_of(plan: Plan) -> list[Check]:
    """All checks under this backend: the quick ones first."""
    found = []
    for precision in PRECISIONS:
        for name, case in LAYERS.items():
            compute = functools.partial(layer, case, precision)
            available = [form for form in case.forms if BACKEND in forms.UNDER[form]]
            found += [Check(name, precision, form, "layer", compute) for form in ("", *available)]
    for precision in PRECISIONS:
        for name, network in NETWORKS.items():
            compute = functools.partial(network, plan, precision)
            # The only form that is chosen when a model is fused.
            winograd = ("winograd",) if (name, precision) == ("fused model", "float32") else ()
            found += [Check(name, precision, form, "network", compute) for form in ("", *winograd)]
    return found


def layer(case: LayerCase, precision: str) -> Numbers:
    """Outputs and gradients of a layer."""
    keras.config.set_dtype_policy(precision)
    made, generator = case.make(), np.random.default_rng(0)
    inputs = [generator.normal(scale=case.scale, size=shape).astype("float32") for shape in case.shapes]
    made.build([each.shape for each in inputs] if len(inputs) > 1 else inputs[0].shape)
    draw_kernels(made)
    return device.outputs_and_gradients(made, inputs if len(inputs) > 1 else inputs[0])


def draw_kernels(layer: keras.Layer) -> None:
    """Set all kernels to normal numbers that keep the inputs' size, the same on every backend."""
    generator = np.random.default_rng(1)
    for weight in layer.weights:
        if len(weight.shape) > 1:
            depthwise = "depthwise" in weight.path
            size = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1]) ** -0.5
            weight.assign((size * generator.normal(size=weight.shape)).astype("float32"))


def _model(plan: Plan, precision: str) -> tuple[ExFuse, np.ndarray, np.ndarray]:
    keras.config.set_dtype_policy(precision)
    model, generator = ExFuse(21, backbone=plan.check_backbone), np.random.default_rng(2)
    draw_kernels(model)
    shape = (2, plan.check_size, plan.check_size)
    images = generator.integers(0, 256, (*shape, 3)).astype("uint8")
    return model, images, generator.integers(0, 21, shape).astype("uint8")


def _prediction(plan: Plan, precision: str) -> Numbers:
    model, images, _ = _model(plan, precision)
    return model.predict_on_batch(images), []


def _fused(plan: Plan, precision: str) -> Numbers:
    model, images, _ = _model(plan, precision)
    return fuse_for_inference(model).predict_on_batch(images), []


def _training_step(plan: Plan, precision: str) -> Numbers:
    """The loss, and what a step of gradient descent changed: all gradients in one array."""
    model, images, masks = _model(plan, precision)
    before = [each.copy() for each in map(device.as_float32, model.trainable_variables)]
    model.compile(optimizer=keras.optimizers.SGD(1.0), metrics=[])
    loss = model.train_on_batch(images, masks)
    after = map(device.as_float32, model.trainable_variables)
    changes = [(new - old).ravel() for new, old in zip(after, before, strict=True)]
    return np.asarray(loss, "float32"), [np.concatenate(changes)]


NETWORKS = {"default model": _prediction, "fused model": _fused, "training step": _training_step}


# === The two sides ===


def reference(plan: Plan) -> None:
    """Compute all on the CPU, and store it for the other process."""
    with dispatch.without(*dispatch.form_names()):
        for check in checks_of(plan):
            path = Path(plan.folder) / check.file
            if check.precision == "float32" and not path.exists():
                partial = path.with_suffix(".part.npz")
                outputs, gradients = check.compute()
                np.savez(partial, outputs, *gradients)
                partial.rename(path)


def check_all(plan: Plan) -> None:
    """Compute all on the device, and compare with what the CPU has stored."""
    clock = planning.Clock(plan.seconds)
    signed = {"device": device.name(), "tf32": "off", **about(device.PACKAGES, "")}
    for check in checks_of(plan):
        if clock.left() <= 0:
            return
        told = {"backend": BACKEND, "what": check.what, "precision": check.precision, "form": check.form}
        try:
            with dispatch.also(check.form) if check.form else contextlib.nullcontext():
                found = check.compute()
            expected = _awaited(Path(plan.folder) / check.file, clock)
            values = compared(found, expected, *LIMITS[check.kind, check.precision])
        except Exception as error:  # It becomes a row and does not stop the others.
            trouble = planning.trouble_of(error)
            values = {**dict.fromkeys(COMPARED, ""), "trouble": trouble}
        tell({**told, **values, **signed})


COMPARED = ("difference", "gradient_difference", "limit", "gradient_limit", "good")


def compared(found: Numbers, expected: Numbers, limit: float, gradient_limit: float) -> dict[str, Any]:
    """How far outputs are apart, and the worst of the gradients, by the norm of what is expected."""
    output = _difference(found[0], expected[0])
    gradients = [_difference(*pair) for pair in zip(found[1], expected[1], strict=True)]
    good = all(each <= gradient_limit for each in gradients) and output <= limit
    worst = f"{np.max(gradients):.2e}" if gradients else ""
    return dict(zip(COMPARED, (f"{output:.2e}", worst, limit, gradient_limit, good), strict=True), trouble="")


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    expected = expected.astype("float64")
    size = np.linalg.norm(expected.ravel())
    # What is expected to be nothing is nothing.
    return float(np.linalg.norm((found - expected).ravel()) / (size or 1))


def _awaited(path: Path, clock: planning.Clock) -> Numbers:
    """What the other process stores, once they are there."""
    while not path.exists():
        if clock.left() <= 0:
            raise TimeoutError("the CPU's numbers were not there in time")
        time.sleep(0.05)
    with np.load(path) as stored:
        outputs, *gradients = (stored[name] for name in stored)
    return outputs, gradients


def main() -> None:
    """Read the plan and be one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan")
    parser.add_argument("--reference", action="store_true")
    arguments = parser.parse_args()
    plan = planning.read(arguments.plan)
    device.allow_tf32(False)
    if arguments.reference:
        reference(plan)
    else:
        device.check(plan.rehearse)
        check_all(plan)


if __name__ == "__main__":
    main()
