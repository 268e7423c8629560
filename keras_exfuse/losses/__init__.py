"""Losses of integer masks and logits; pixels of the ignored class weigh nothing."""

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses.cross_entropy import CrossEntropy, Focal
from keras_exfuse.losses.exfuse import ExFuseLoss, class_presence, labels_at_stride
from keras_exfuse.losses.regions import Dice, LovaszSoftmax
from keras_exfuse.losses.weighted_sum import WeightedSum

__all__ = [
    "IGNORE_CLASS",
    "CrossEntropy",
    "Dice",
    "ExFuseLoss",
    "Focal",
    "LovaszSoftmax",
    "WeightedSum",
    "class_presence",
    "labels_at_stride",
]
