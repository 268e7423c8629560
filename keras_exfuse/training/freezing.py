"""Parts of a model that are to stay as they are while the rest learns."""

import keras


def freeze_backbone(model: keras.Model) -> keras.Model:
    """Keep the backbone as it is: its weights, and the statistics of its batch normalization.

    Call it before `compile`. Batch normalization that is not trainable normalises with its moving statistics in
    training, too, and does not change them.

    Args:
        model: An `ExFuse` or `GCN`.

    Returns:
        The same model.

    Raises:
        ValueError: If the model has no `backbone`.

    Example:
    >>> import keras_exfuse
    >>> model = freeze_backbone(keras_exfuse.GCN(3, backbone="efficientnet_lite0"))
    >>> len(model.backbone.trainable_variables)
    0
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, keras.Model):
        raise ValueError(
            f"{model.name} has no backbone to freeze: expected an ExFuse or GCN with `.backbone`."
        )
    backbone.trainable = False
    return model


def freeze_batch_norm(model: keras.Model) -> keras.Model:
    """Keep every batch normalization as it is: moving statistics, scale and offset.

    For batches too small for statistics of their own. Call it before `compile`.

    Args:
        model: Any model.

    Returns:
        The same model.

    Example:
    >>> import keras_exfuse
    >>> model = freeze_batch_norm(keras_exfuse.GCN(3, backbone="efficientnet_lite0"))
    >>> any("gamma" in variable.path for variable in model.trainable_variables)
    False
    """
    for layer in batch_norms(model):
        layer.trainable = False
    return model


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Every batch normalization, however deep in nested models and layers."""
    # Not `model.layers`: that does not look into layers made of layers.
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
