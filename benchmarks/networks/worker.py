"""A network as a candidate of `benchmarks.networks.run`, in a process of its own: inference or training steps.

KERAS_BACKEND=jax python -m benchmarks.networks.worker training exfuse '{"size": 512, "batch": 2}'
"""

import dataclasses
import json
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.contest import serve


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all candidates of a run are given."""

    backbone: str = "resnet50"
    size: int = 512
    batch: int = 1
    classes: int = 21
    precision: str = "float32"

    def images(self) -> np.ndarray:
        """Random RGB 0..255 (batch, size, size, 3): what they show changes no time."""
        generator = np.random.default_rng(0)
        return generator.uniform(0, 255, (self.batch, self.size, self.size, 3)).astype("float32")

    def masks(self) -> np.ndarray:
        """Random labels (batch, size, size)."""
        generator = np.random.default_rng(1)
        return generator.integers(0, self.classes, (self.batch, self.size, self.size)).astype("uint8")


def make(job: str, candidate: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """The work of a candidate as a function, and what is to be known of it."""
    from benchmarks.networks import keras_candidates

    if candidate in keras_candidates.CEILINGS:
        return keras_candidates.ceiling(candidate)
    if candidate in keras_candidates.NETWORKS:
        return getattr(keras_candidates, job)(candidate, setting)
    from benchmarks.networks import torch_candidates

    return getattr(torch_candidates, job)(candidate, setting)


def main(job: str, candidate: str, setting: str) -> None:
    """Make one candidate and serve."""
    serve(*make(job, candidate, Setting(**json.loads(setting))))


if __name__ == "__main__":
    main(*sys.argv[1:])
