"""What `compile` makes of the losses and metrics that Keras's users are used to."""

import warnings

import keras

# By name Keras's takes the model's logits for probabilities, in silence.
_NAMES = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


def loss_of_logits(loss, default):
    """The loss that a user means for a model that gives logits.

    Args:
        loss: What came to `compile`.
        default: What makes the cross-entropy of integer labels and logits, called without arguments.

    Returns:
        `default()` for Keras's sparse categorical cross-entropy by name; every other loss as it is.

    Raises:
        ValueError: If the loss takes probabilities.
    """
    if loss in _NAMES or loss is keras.losses.sparse_categorical_crossentropy:
        return default()
    kinds = (
        keras.losses.SparseCategoricalCrossentropy,
        keras.losses.CategoricalCrossentropy,
        keras.losses.BinaryCrossentropy,
    )
    if isinstance(loss, kinds) and not loss.get_config().get("from_logits", True):
        raise ValueError(
            f"The model gives logits, and the loss takes them for probabilities. Received: "
            f"{type(loss).__name__}(from_logits=False). Use {type(loss).__name__}(from_logits=True), or no loss at "
            "all: the default is right."
        )
    return loss


def warn_of_accuracy(metrics) -> None:
    """Say that Keras's accuracy by name counts ignored pixels as wrong."""
    names = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    if any(name in ("accuracy", "acc") for name in names if isinstance(name, str)):
        warnings.warn(
            'metrics=["accuracy"] counts ignored pixels (255) as wrong. Use '
            "keras_exfuse.metrics.PixelAccuracy(num_classes), which leaves them out.",
            stacklevel=3,
        )
