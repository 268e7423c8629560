"""A training loop of your own in PyTorch: the model gives logits, `compute_loss` is the whole objective.

KERAS_BACKEND=torch python examples/training_loops/torch_loop.py
"""

import keras
import numpy as np
import torch

import keras_exfuse


def batches(steps, num_classes, side=64):
    """Random images, each half bright and half dark, with masks to match; put your own data here."""
    random = np.random.default_rng(0)
    for _ in range(steps):
        masks = np.zeros((2, side, side), "uint8")
        masks[:, :, side // 2 :] = random.integers(1, num_classes, (2, 1, 1))
        yield (masks[..., None] * 60 + random.integers(0, 30, (2, side, side, 3))).astype("float32"), masks


def train(model, steps=10, learning_rate=1e-3):
    """Train, and return the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    losses = []
    for images, masks in batches(steps, model.num_classes):
        optimizer.zero_grad()
        logits = model(images, training=True)
        loss = model.compute_loss(images, masks, logits)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    for loss in train(keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")):
        print(f"{loss:.3f}")
