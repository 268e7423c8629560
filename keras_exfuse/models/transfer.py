"""Weights of one model for another that differs in its classes."""

import os

import keras


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
        source = keras.saving.load_model(source, compile=False)
    theirs, mine = source.weights, model.weights
    kinds = [[weight.path.rpartition("/")[2] for weight in weights] for weights in (theirs, mine)]
    ranks = [[len(weight.shape) for weight in weights] for weights in (theirs, mine)]
    if kinds[0] != kinds[1] or ranks[0] != ranks[1]:
        raise ValueError(
            f"The models are of different architectures: {source.name} has {len(theirs)} weights, {model.name} "
            f"has {len(mine)}, and they do not correspond. Build both with the same backbone and switches; only "
            "`num_classes` may differ."
        )
    skipped = []
    for there, here in zip(theirs, mine, strict=True):
        if tuple(there.shape) == tuple(here.shape):
            here.assign(there)
        else:
            skipped.append(f"{here.path}: {tuple(there.shape)} there, {tuple(here.shape)} here")
    return skipped
