"""Training runs: a recipe, and a folder that holds all that came of it."""

from keras_exfuse.training.freezing import freeze_batch_norm, freeze_encoder
from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.run import train
from keras_exfuse.training.schedules import TwoRateAdamW, TwoRateSGD, WarmupPolynomialDecay

__all__ = [
    "Recipe",
    "TwoRateAdamW",
    "TwoRateSGD",
    "WarmupPolynomialDecay",
    "freeze_batch_norm",
    "freeze_encoder",
    "train",
]
