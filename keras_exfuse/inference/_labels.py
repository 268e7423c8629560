"""Scores to labels, in the smallest type that holds them."""

import numpy as np


def to_labels(scores: np.ndarray) -> np.ndarray:
    """The greatest class of the last axis: uint8, or uint16 where 255 means a class."""
    return scores.argmax(axis=-1).astype(label_type(scores.shape[-1]))


def label_type(num_classes: int) -> str:
    """The type of labels: 255 classes and the ignored label fit into eight bits."""
    return "uint8" if num_classes <= 255 else "uint16"
