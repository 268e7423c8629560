"""Batches for the training loops beside this file; put your own data in their place."""

import numpy as np


def batches(steps, num_classes, side=64):
    """Random images, each half bright and half dark, with masks to match."""
    random = np.random.default_rng(0)
    for _ in range(steps):
        masks = np.zeros((2, side, side), "uint8")
        masks[:, :, side // 2 :] = random.integers(1, num_classes, (2, 1, 1))
        yield (masks[..., None] * 60 + random.integers(0, 30, (2, side, side, 3))).astype("float32"), masks
