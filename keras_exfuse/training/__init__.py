"""Training runs: a recipe, and a folder that holds all that came of it."""

from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.run import train
from keras_exfuse.training.schedules import TwoRateAdamW, WarmupPolynomialDecay

__all__ = ["Recipe", "TwoRateAdamW", "WarmupPolynomialDecay", "train"]
