"""One model out of several trained ones: the mean of their weights."""

import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_exfuse.loading import read_network


def average_models(models: Sequence[keras.Model | str | os.PathLike[str]]) -> keras.Model:
    """Average the weights of several models.

    For models that went on from a common one with other seeds, rates or augmentation: their mean may be better than
    each of them. Of models that were trained each from its own random initialization the mean is worth nothing.
    Statistics of batch normalization are averaged as the rest.

    Args:
        models: At least two Keras models of one architecture and the same classes, or what `keras_exfuse.load` takes;
            those given as a name or path are in memory one after another.

    Returns:
        A new model, not compiled, with `class_names` if one of the models has them.

    Raises:
        ValueError: If there are fewer than two, or they differ in their weights' shapes or the names of their classes.

    Source: Wortsman et al. 2022 (arXiv 2203.05482), "model soups", the uniform one.

    Example:
    >>> import keras_exfuse
    >>> ones, threes = (keras_exfuse.GCN(2, backbone="efficientnet_lite0") for _ in range(2))
    >>> ones.set_weights([np.full(weight.shape, 1.0) for weight in ones.weights])
    >>> threes.set_weights([np.full(weight.shape, 3.0) for weight in threes.weights])
    >>> float(average_models([ones, threes]).get_weights()[0].mean())
    2.0
    """
    if isinstance(models, (str, os.PathLike)) or len(models) < 2:
        raise ValueError(f"Give at least two models to average, as a list. Received: {models!r}")
    first = _model(models[0])
    names = getattr(first, "class_names", None)
    # In double precision, so that the order of the models does not matter.
    totals = [np.asarray(weight, "float64") for weight in first.get_weights()]
    for each in models[1:]:
        other = _model(each)
        weights = other.get_weights()
        if [weight.shape for weight in weights] != [total.shape for total in totals]:
            raise ValueError(
                f"Only models of one architecture and the same classes can be averaged: {_called(models[0])} and "
                f"{_called(each)} have weights of other shapes."
            )
        others = getattr(other, "class_names", None)
        if names and others and tuple(names) != tuple(others):
            raise ValueError(
                f"Only models of the same classes can be averaged: those of {_called(models[0])} are {tuple(names)}, "
                f"those of {_called(each)} {tuple(others)}."
            )
        names = names or others
        totals = [total + weight for total, weight in zip(totals, weights, strict=True)]
    mean = type(first).from_config(first.get_config())
    mean.set_weights([total / len(models) for total in totals])
    if names:
        mean.class_names = tuple(names)
    return mean


def _model(model: keras.Model | str | os.PathLike[str]) -> keras.Model:
    return read_network(model) if isinstance(model, (str, os.PathLike)) else model


def _called(model: keras.Model | str | os.PathLike[str]) -> str:
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) else model.name
