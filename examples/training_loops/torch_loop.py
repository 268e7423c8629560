"""A training loop of your own in PyTorch: the model gives logits, `compute_loss` is the whole objective.

KERAS_BACKEND=torch python examples/training_loops/torch_loop.py
"""

import keras
import torch
from synthetic_batches import batches

import keras_exfuse


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
