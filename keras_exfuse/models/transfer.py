"""Weights of one model for another that differs in its classes."""

import os

import keras

from keras_exfuse.presets.card import load_keras_file


def transfer_weights(source: keras.Model | str | os.PathLike[str], model: keras.Model) -> list[str]:
    """Copy every weight that fits from a model of the same architecture, whatever its number of classes.

    Args:
        source: A model, or the path of a `.keras` file.
        model: The model that gets the weights, built with the same switches and backbone.

    Returns:
        A line for each weight that kept its value, because its shape depends on the classes: its path and
        both shapes.

    Raises:
        ValueError: If the two are different architectures; nothing is copied then.

    Example:
    >>> import keras_exfuse
    >>> old = keras_exfuse.GCN(21, backbone="efficientnet_lite0")
    >>> new = keras_exfuse.GCN(3, backbone="efficientnet_lite0")
    >>> keras_exfuse.transfer_weights(old, new)[0]
    'global_convolution_4/column_first/kernel: (7, 1, 320, 21) there, (7, 1, 320, 3) here'
    """
    if not isinstance(source, keras.Model):
        source = load_keras_file(source)
    pairs, skipped = _pairs(source, model), []
    classes = [
        each.output_shape[-1] if isinstance(each.output_shape, tuple) else None for each in (source, model)
    ]
    for there, here in pairs:
        shapes = tuple(there.shape), tuple(here.shape)
        if shapes[0] != shapes[1]:
            if not _differ_by_classes(*shapes, *classes):
                raise _different(
                    source,
                    model,
                    f"{here.path} is {shapes[0]} there and {shapes[1]} here, not for the classes' sake",
                )
            skipped.append(f"{here.path}: {shapes[0]} there, {shapes[1]} here")
    for there, here in pairs:
        if tuple(there.shape) == tuple(here.shape):
            here.assign(there)
    return skipped


def _pairs(source, model):
    """The weights of both models that correspond: by path, or by order where Keras numbered unnamed layers."""
    theirs, mine = ({weight.path: weight for weight in each.weights} for each in (source, model))
    if set(theirs) == set(mine) and len(mine) == len(model.weights):
        return [(theirs[path], weight) for path, weight in mine.items()]
    kinds = [[weight.path.rpartition("/")[2] for weight in each.weights] for each in (source, model)]
    if kinds[0] != kinds[1]:
        missing = sorted(set(mine) - set(theirs))[:2] or sorted(set(theirs) - set(mine))[:2]
        raise _different(source, model, f"for example {', '.join(missing)} is in one of them alone")
    return list(zip(source.weights, model.weights, strict=True))


def _differ_by_classes(there, here, their_classes, my_classes) -> bool:
    """Whether two shapes are equal but for axes that are proportional to the numbers of classes."""
    if len(there) != len(here) or None in (their_classes, my_classes) or their_classes == my_classes:
        return False
    return all(a == b or a * my_classes == b * their_classes for a, b in zip(there, here, strict=True))


def _different(source, model, why) -> ValueError:
    return ValueError(
        f"The models are of different architectures: {source.name} has {len(source.weights)} weights, {model.name} "
        f"has {len(model.weights)}, and {why}. Build both with the same backbone and switches; only `num_classes` "
        "may differ."
    )
