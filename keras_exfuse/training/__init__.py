"""Training runs: a recipe, and the directory that holds all that came of it."""

from keras_exfuse.training.averaging import average_models
from keras_exfuse.training.freezing import freeze_backbone, freeze_batch_norm
from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.run import train
from keras_exfuse.training.schedules import SGD, AdamW, WarmupPolynomialDecay
from keras_exfuse.training.stopping import Interrupted

__all__ = [
    "SGD",
    "AdamW",
    "Interrupted",
    "Recipe",
    "WarmupPolynomialDecay",
    "average_models",
    "freeze_backbone",
    "freeze_batch_norm",
    "train",
]
