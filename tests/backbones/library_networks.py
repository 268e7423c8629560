"""Weights and features of timm's and torchvision's own networks, at random weights, for test_backbone_timm.

    PYTHONPATH=FOLDER_OF_THE_LIBRARIES python library_networks.py RESULTS

It is a process of its own: the package index has no build of torchvision for torch's CPU build, and torchmetrics
fails where it meets one that cannot load its operators. Only Python code of torchvision is needed here.
"""

import sys
from pathlib import Path

import numpy as np
import torch

# torchvision declares shapes for these two operators, which its compiled part did not bring.
operators = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
from torch_backbones import randomize  # noqa: E402

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
LITE = ((127.0,) * 3, (128.0,) * 3)


def timm_network(name):
    """A network of timm's, and a function that gives its maps at strides 4, 8, 16 and 32."""
    network = randomize(timm.create_model(name, pretrained=False), seed=0)
    return network, lambda images: network.forward_intermediates(images, intermediates_only=True)[1:]


def torchvision_network(name):
    """A network of torchvision's, and the same function."""
    network = randomize(getattr(torchvision.models, name)(weights=None), seed=0)

    def maps(images):
        x, levels = network.maxpool(network.relu(network.bn1(network.conv1(images)))), []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            levels.append(x := stage(x))
        return levels

    return network, maps


# Our name: the network, and the normalization that its images get.
NETWORKS = {
    "resnet50": (lambda: timm_network("resnet50"), IMAGENET),
    "resnext50_32x4d": (lambda: torchvision_network("resnext50_32x4d"), IMAGENET),
    "efficientnet_lite0": (lambda: timm_network("tf_efficientnet_lite0"), LITE),
}


def main(folder):
    images = np.random.default_rng(0).uniform(0, 255, (1, 96, 64, 3)).astype("float32")
    for name, (make, (mean, deviation)) in NETWORKS.items():
        network, maps = make()
        normalized = ((images - np.float32(mean)) / np.float32(deviation)).transpose(0, 3, 1, 2)
        with torch.no_grad():
            levels = maps(torch.tensor(np.ascontiguousarray(normalized)))
        torch.save(network.state_dict(), folder / f"{name}.pth")
        numbered = {f"level_{i}": level.numpy().transpose(0, 2, 3, 1) for i, level in enumerate(levels, 1)}
        np.savez(folder / f"{name}.npz", images=images, **numbered)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
