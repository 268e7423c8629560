"""Networks of PyTorch's libraries that are timed against ours, in PyTorch itself, in channels_last.

`make bench` puts the libraries into a folder of their own, `.venv/networks`: beside torch's CPU build torchvision's
compiled part does not load, which upsets others. None of them needs it here.
"""

import functools
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from benchmarks.networks.worker import Setting

LIBRARIES = Path(__file__).resolve().parents[2] / ".venv" / "networks"
FORMAT = torch.channels_last  # Faster on this processor than the default, for all of them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _smp(name: str) -> Callable[[Setting], torch.nn.Module]:
    def make(setting: Setting) -> torch.nn.Module:
        import segmentation_models_pytorch

        network = getattr(segmentation_models_pytorch, name)
        return network(setting.backbone, encoder_weights=None, classes=setting.classes)

    return make


def _torchvision(setting: Setting) -> torch.nn.Module:
    from torchvision.models import segmentation

    options = {"weights": None, "weights_backbone": None, "num_classes": setting.classes}
    return getattr(segmentation, f"deeplabv3_{setting.backbone}")(**options)


def _pywick(module: str) -> types.ModuleType:
    """A module of pywick without the packages around it, which import all of pywick and fail on today's torch."""
    parts = ("pywick", "models", "segmentation", *module.split(".")[:-1])
    for depth in range(1, len(parts) + 1):
        package = types.ModuleType(".".join(parts[:depth]))
        package.__path__ = [str(LIBRARIES.joinpath(*parts[:depth]))]
        sys.modules.setdefault(package.__name__, package)
    return importlib.import_module(f"pywick.models.segmentation.{module}")


def _pywick_gcn(setting: Setting) -> torch.nn.Module:
    import torchvision

    gcn = _pywick("gcnnets.gcn")
    backbone = getattr(torchvision.models, setting.backbone)
    # It has ResNet-152 for a backbone, always; the comparison is of decoders.
    with mock.patch.object(torchvision.models, "resnet152", lambda pretrained: backbone(weights=None)):  # noqa: PT008
        return gcn.GCN(setting.classes, pretrained=False)


def _pywick_exfuse(setting: Setting) -> torch.nn.Module:
    module = _pywick("testnets.lg_kernel_exfuse.large_kernel_exfuse")
    return module.GCNFuse(setting.classes, backbone=setting.backbone, pretrained=False)


NETWORKS: dict[str, Callable[[Setting], torch.nn.Module]] = {
    "deeplab_v3_plus_smp": _smp("DeepLabV3Plus"),
    "fpn_smp": _smp("FPN"),
    "unet_smp": _smp("Unet"),
    "deeplab_v3_torchvision": _torchvision,
    "gcn_pywick": _pywick_gcn,
    "exfuse_pywick": _pywick_exfuse,
}


def inference(candidate: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """A prediction: numpy images in, numpy logits out, normalization included."""
    model, images = network(candidate, setting).eval(), setting.images()

    def call():
        with torch.inference_mode():
            return _logits(model(as_input(images))).numpy()

    return call, facts(model, setting)


def training(candidate: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """A step of AdamW on the cross-entropy."""
    model, images, masks = network(candidate, setting), setting.images(), setting.masks()
    known = facts(model.eval(), setting)
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-4)

    def call():
        optimizer.zero_grad()
        logits = _logits(model(as_input(images)))
        labels = torch.from_numpy(masks).long()
        loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call, known


def network(candidate: str, setting: Setting) -> torch.nn.Module:
    """A candidate, its weights random."""
    if setting.precision != "float32":
        raise ValueError(f"The networks of PyTorch are timed in float32, not in {setting.precision}.")
    load_libraries()
    return NETWORKS[candidate](setting).to(memory_format=FORMAT)


@functools.cache
def load_libraries() -> object:
    """Make the peers' libraries importable: from `.venv/networks`, or as they are installed."""
    if not LIBRARIES.is_dir():
        if importlib.util.find_spec("segmentation_models_pytorch"):
            return None
        raise FileNotFoundError("The peers' libraries are not there: run `make bench` first.")
    sys.path.insert(0, str(LIBRARIES))
    # torchvision declares shapes for these two operators, which its compiled part did not bring.
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators  # The operators go when this object goes.


def as_input(images) -> torch.Tensor:
    """RGB 0..255 (B, H, W, 3), an array or a tensor, as these networks take it: normalized, channels first."""
    images = torch.as_tensor(images)
    mean, deviation = (torch.tensor(each, device=images.device) for each in (MEAN, DEVIATION))
    normalized = (images / 255 - mean) / deviation
    return normalized.permute(0, 3, 1, 2)  # Channels last in memory, as they come.


def _logits(output) -> torch.Tensor:
    return output["out"] if isinstance(output, dict) else output


def facts(model: torch.nn.Module, setting: Setting) -> dict:
    """Parameters and MACs of a batch, for the table."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(as_input(setting.images()))
    parameters = sum(each.numel() for each in model.parameters())
    return {
        "million_parameters": f"{parameters / 1e6:.2f}",
        "gmacs": f"{counter.get_total_flops() / 2e9:.2f}",
    }
