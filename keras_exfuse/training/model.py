"""From a recipe to a compiled model, ready for its first step."""

from collections.abc import Callable
from typing import Any

import keras

from keras_exfuse.training import distribution
from keras_exfuse.training.freezing import batch_norms, freeze_backbone, freeze_batch_norm
from keras_exfuse.training.recipe import Recipe
from keras_exfuse.training.schedules import SGD, AdamW, LossScaleOptimizer, WarmupPolynomialDecay


def compiled_model(recipe: Recipe, steps: int, say: Callable[[str], Any] = print) -> keras.Model:
    """Make a run's model with its starting weights, loss, metrics and optimizer.

    Args:
        recipe: The run.
        steps: Batches of the whole run.
        say: Prints a line.

    Returns:
        The model.

    Raises:
        ValueError: If the starting weights do not fit, or the backend cannot do what the recipe asks.
    """
    from keras_exfuse.losses import ExFuseLoss

    model = recipe.build_model()
    if recipe.init_from is not None:
        take_weights(recipe.init_from, model, say)
    if recipe.freeze_backbone:
        freeze_backbone(model)
    if recipe.freeze_batch_norm:
        freeze_batch_norm(model)
    if recipe.synchronized_batch_norm:
        distribution.synchronize_batch_norm(batch_norms(model), recipe.devices)
    loss = ExFuseLoss(
        segmentation=_segmentation_loss(recipe),
        channel_resolution_weight=recipe.channel_resolution_weight,
        semantic_supervision_weight=recipe.semantic_supervision_weight,
    )
    optimizer = make_optimizer(recipe, model, steps)
    if model.compute_dtype == "float16":
        optimizer = LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=loss,
        jit_compile="auto" if recipe.jit is None else recipe.jit,
    )
    # Building it outside the compiled step halves the time that TensorFlow needs to start.
    model.optimizer.build(model.trainable_variables)
    return model


def _segmentation_loss(recipe: Recipe) -> keras.losses.Loss:
    """The loss of the full-resolution logits."""
    from keras_exfuse.losses import CrossEntropy, Dice, LovaszSoftmax, WeightedSum

    pixels = CrossEntropy(
        class_weights=recipe.class_weights or None,
        label_smoothing=recipe.label_smoothing,
        ohem_ratio=recipe.ohem_ratio,
    )
    if recipe.devices > 1:
        pixels = distribution.MeanOverDevices(pixels)
    regions = [(Dice(), recipe.dice_weight), (LovaszSoftmax(), recipe.lovasz_weight)]
    terms = [(pixels, 1.0), *((loss, weight) for loss, weight in regions if weight)]
    if len(terms) == 1:
        return pixels
    parts, weights = zip(*terms, strict=True)
    return WeightedSum(parts, weights)


def make_optimizer(recipe: Recipe, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """AdamW or SGD on a polynomial schedule with warm-up, as the recipe says.

    Args:
        recipe: The run.
        model: Its model.
        steps: Batches of the whole run.

    Returns:
        The optimizer: with a rate of its own for the backbone if the recipe has one, and without weight decay for
        biases and batch normalization. Keras does not store which weights decay spares: after `load_model`, call
        `optimizer.exclude_from_weight_decay` again before training goes on. (A run that is resumed does.)
    """
    # In batches, also when gradients of several are accumulated: so does Keras count for schedules.
    warmup_steps = min(int(steps * recipe.warmup), steps - 1)
    schedule = WarmupPolynomialDecay(recipe.learning_rate, steps, warmup_steps, recipe.power)
    options: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps
        if recipe.gradient_accumulation_steps > 1
        else None,
    }
    if recipe.ema is not None:
        options.update(use_ema=True, ema_momentum=recipe.ema)
    plain, two_rates = keras.optimizers.AdamW, AdamW
    if recipe.optimizer == "sgd":
        plain, two_rates = keras.optimizers.SGD, SGD
        options["momentum"] = recipe.momentum
    if recipe.backbone_learning_rate is None:
        optimizer = plain(schedule, **options)
    else:
        optimizer = two_rates(
            schedule,
            backbone_lr_multiplier=recipe.backbone_learning_rate / recipe.learning_rate,
            paths=[variable.path for variable in model.backbone.trainable_variables],
            **options,
        )
    # Biases, and scale and offset of batch normalization: everything that is no kernel.
    spared = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer


def take_weights(source: str, model: keras.Model, say: Callable[[str], Any] = print) -> list[str]:
    """Let a model begin with another's weights.

    Args:
        source: What `keras_exfuse.load` takes (the directory of a run means the same model), or a classifier's file.
        model: The model.
        say: Prints a line.

    Returns:
        A line for each weight that kept its value; see `keras_exfuse.transfer_weights`.

    Raises:
        ValueError: If there is no such model, or it is of another architecture.
    """
    from keras_exfuse.loading import read_network
    from keras_exfuse.models import SemanticSupervisionClassifier, transfer_weights

    try:
        other = read_network(source)
        if isinstance(other, SemanticSupervisionClassifier):
            skipped = transfer_weights(other.pretrained_backbone("stage"), model.backbone)
            say(f"The backbone begins with the weights of {source}.")
        else:
            skipped = transfer_weights(other, model)
            say(f"The model begins with the weights of {source}.")
    except ValueError as error:
        raise ValueError(f"init_from = {source!r}: {error}") from error
    if skipped:
        say(
            f"{len(skipped)} of them keep their initialization, since they depend on the classes: {skipped[0]} ..."
        )
    return skipped
