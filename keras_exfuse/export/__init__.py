"""From a model to files that a server runs."""

from keras_exfuse.export.savedmodel import export_savedmodel

__all__ = ["export_savedmodel"]
