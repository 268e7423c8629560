"""Segmentation metrics from one streaming confusion matrix, exact however many pixels pass."""

from keras_exfuse.metrics.accuracy import MeanAccuracy, PixelAccuracy, TrimapAccuracy
from keras_exfuse.metrics.confusion_matrix import ConfusionMatrix
from keras_exfuse.metrics.overlap import FrequencyWeightedIoU, MeanDice, MeanIoU, iou_per_class

__all__ = [
    "ConfusionMatrix",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanDice",
    "MeanIoU",
    "PixelAccuracy",
    "TrimapAccuracy",
    "iou_per_class",
]
