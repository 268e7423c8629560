"""What a run does, and how its processes tell what they found. Imports no Keras."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

# Of `benchmarks.accuracy.comparison`: the parts of the paper one by one, all of them, and the peer.
CANDIDATES = (
    "gcn",
    "gcn_seb",
    "gcn_seb_separable",
    "gcn_ecre",
    "gcn_dap",
    "exfuse",
    "exfuse_separable",
    "deeplab_v3_plus_kerashub",
)
# What makes two rows of a part the same measurement.
KEYS = {
    "correctness": ("backend", "what", "precision", "form"),
    "speed": ("backend", "job", "candidate", "backbone", "precision", "batch", "form"),
    "input": ("source", "reader"),
    "accuracy": ("candidate", "seed"),
}
PARTS = tuple(KEYS)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the process of a part is given.

    Args:
        rehearse: Whether it may run without a GPU.
        seconds: After so many a part begins nothing new.
        size, batches, backbones, precisions: Of the timed networks; the first of each comes first.
        matrix_side: Of the product whose rate is the yardstick.
        rounds: Times that each program is timed; a round takes about `round_seconds`.
        together: Programs that JAX compiles at once, each in a thread.
        check_backbone, check_size: Of the models whose numbers are checked.
        crop, crop_batch, crop_batches: Of the input pipeline.
        steps: Training steps of the accuracy part; None for the budget of the comparison.
        judged_images: Validation images; None for all.
        seeds: Of the accuracy part.
        camvid: Folder of CamVid in VOC layout; empty if it is not there.
        folder: For what the processes of a part give each other.
        done: What the table of the part has already, as `key` gives it.
    """

    rehearse: bool = False
    seconds: float = 60.0
    size: int = 512
    batches: tuple[int, ...] = (16, 8, 1)
    backbones: tuple[str, ...] = ("resnet50", "resnext101_lr")
    precisions: tuple[str, ...] = ("mixed_bfloat16", "float32")
    matrix_side: int = 8192
    rounds: int = 7
    round_seconds: float = 0.2
    together: int = 4
    check_backbone: str = "resnet50"
    check_size: int = 128
    crop: int = 512
    crop_batch: int = 16
    crop_batches: int = 60
    steps: int | None = None
    judged_images: int | None = None
    seeds: int = 10
    camvid: str = ""
    folder: str = ""
    done: tuple[tuple[str, ...], ...] = ()

    def write(self, path: Path) -> Path:
        """Store it for another process."""
        path.write_text(json.dumps(dataclasses.asdict(self)))
        return path


# Tiny sizes and few steps: what runs on a GPU, run on a CPU to see that it does.
REHEARSAL = Plan(
    rehearse=True,
    size=32,
    batches=(2,),
    backbones=("efficientnet_lite0", "resnet50"),
    precisions=("float32", "mixed_bfloat16"),  # Some convolutions take seconds in bfloat16 on a CPU.
    matrix_side=256,
    rounds=1,
    round_seconds=0.05,
    together=1,
    check_backbone="efficientnet_lite0",
    check_size=64,
    crop=128,
    crop_batch=4,
    crop_batches=4,
    steps=3,
    judged_images=2,
    seeds=1,
)


def read(path: str) -> Plan:
    """The plan that `Plan.write` stored."""
    values = json.loads(Path(path).read_text())
    for name in ("batches", "backbones", "precisions"):
        values[name] = tuple(values[name])
    values["done"] = tuple(tuple(key) for key in values["done"])
    return Plan(**values)


def tell(row: dict[str, Any]) -> None:
    """Give the starting process a row, to be stored at once."""
    print("row", json.dumps(row), flush=True)


def key(row: dict[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    """What makes two rows the same measurement."""
    return tuple(str(row[name]) for name in columns)


class Clock:
    """Says when a part has used up its time."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; 0 or less behind it."""
        return self._end - time.monotonic()


def trouble_of(error: Exception) -> str:
    """What a row says of what went wrong."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
