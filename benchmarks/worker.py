"""A network as a contestant of `benchmarks.run`, in a process of its own: inference or training steps.

KERAS_BACKEND=jax python -m benchmarks.worker training exfuse '{"size": 512, "batch": 2}'
"""

import dataclasses
import json
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.contest import serve


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all contestants of a run are given."""

    backbone: str = "resnet50"
    size: int = 512
    batch: int = 1
    classes: int = 21
    precision: str = "float32"

    def pictures(self) -> np.ndarray:
        """Random RGB 0..255 (batch, size, size, 3): what they show changes no time."""
        generator = np.random.default_rng(0)
        return generator.uniform(0, 255, (self.batch, self.size, self.size, 3)).astype("float32")

    def masks(self) -> np.ndarray:
        """Random labels (batch, size, size)."""
        generator = np.random.default_rng(1)
        return generator.integers(0, self.classes, (self.batch, self.size, self.size)).astype("uint8")


def make(job: str, contestant: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """The work of a contestant as a function, and what is to be known of it."""
    from benchmarks import keras_contestants

    if contestant in keras_contestants.CEILINGS:
        return keras_contestants.ceiling(contestant)
    if contestant in keras_contestants.NETWORKS:
        return getattr(keras_contestants, job)(contestant, setting)
    from benchmarks import torch_contestants

    return getattr(torch_contestants, job)(contestant, setting)


def main(job: str, contestant: str, setting: str) -> None:
    """Make one contestant and serve."""
    serve(*make(job, contestant, Setting(**json.loads(setting))))


if __name__ == "__main__":
    main(*sys.argv[1:])
