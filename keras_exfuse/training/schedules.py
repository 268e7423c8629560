"""The learning rate over a training run, and a smaller one for the backbone."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0, then falls as `(1 - progress) ** power`: the "poly" schedule of the field.

    Args:
        learning_rate: The highest rate, reached after the warm-up.
        steps: Steps of the whole run; the rate is 0 at its end.
        warmup_steps: Steps of the rise.
        power: Shape of the fall.

    Source: the decay is `keras.optimizers.schedules.PolynomialDecay`; the paper does not say.

    Example:
    >>> schedule = WarmupPolynomialDecay(0.1, steps=110, warmup_steps=10, power=1.0)
    >>> [round(float(schedule(step)), 3) for step in (4, 9, 60, 110)]
    [0.05, 0.1, 0.05, 0.0]
    """

    def __init__(self, learning_rate: float, steps: int, warmup_steps: int = 0, power: float = 0.9):
        if not 0 <= warmup_steps < steps:
            raise ValueError(
                f"The warm-up must be shorter than the run, got {warmup_steps} of {steps} steps."
            )
        self.learning_rate, self.steps = learning_rate, steps
        self.warmup_steps, self.power = warmup_steps, power
        self._decay = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, steps - warmup_steps, end_learning_rate=0.0, power=power
        )

    def __call__(self, step):
        step = ops.cast(step, "float32")
        decayed = self._decay(ops.maximum(step - self.warmup_steps, 0.0))
        if not self.warmup_steps:
            return decayed
        rising = self.learning_rate * (step + 1.0) / self.warmup_steps
        return ops.where(step < self.warmup_steps, rising, decayed)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
        }


# A part of two optimizers; for a type checker it is one by itself.
_Optimizer: Any = keras.optimizers.Optimizer if TYPE_CHECKING else object


class _BackboneRate(_Optimizer):
    """A learning rate multiplier for some variables, for any Keras optimizer."""

    def __init__(self, learning_rate=0.001, backbone_lr_multiplier=1.0, paths=(), **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.backbone_lr_multiplier, self.paths = backbone_lr_multiplier, frozenset(paths)
        self._own_rate: set[int] = set()

    def build(self, variables):
        super().build(variables)
        self._own_rate = {index for index, each in enumerate(variables) if each.path in self.paths}

    def update_step(self, gradient, variable, learning_rate):
        # By index: on TensorFlow the variable that comes here is the backend's own and has no path.
        if self._get_variable_index(variable) in self._own_rate:
            learning_rate = learning_rate * self.backbone_lr_multiplier
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone_lr_multiplier": self.backbone_lr_multiplier,
            "paths": sorted(self.paths),
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class AdamW(_BackboneRate, keras.optimizers.AdamW):
    """AdamW with a learning rate multiplier for some variables.

    A pre-trained backbone wants smaller steps than the decoder, which starts from nothing. Scaling its gradients
    would not do it: Adam divides their size away again. Weight decay, which Keras applies apart from the steps, goes by
    the one rate for all variables.

    Args:
        learning_rate: Rate or schedule of all other variables.
        backbone_lr_multiplier: Factor of the learning rate for `paths`.
        paths: `variable.path` of the variables with a rate of their own.
        **kwargs: As in `keras.optimizers.AdamW`.

    Example:
    >>> optimizer = AdamW(1e-3, backbone_lr_multiplier=0.1, paths=["stem_conv/kernel"])
    """

    def __init__(self, learning_rate=0.001, backbone_lr_multiplier=1.0, paths=(), name="adamw", **kwargs):
        super().__init__(
            learning_rate=learning_rate,
            backbone_lr_multiplier=backbone_lr_multiplier,
            paths=paths,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SGD(_BackboneRate, keras.optimizers.SGD):
    """SGD with a learning rate multiplier for some variables; see `AdamW`.

    Args:
        learning_rate: Rate or schedule of all other variables.
        backbone_lr_multiplier: Factor of the learning rate for `paths`.
        paths: `variable.path` of the variables with a rate of their own.
        **kwargs: As in `keras.optimizers.SGD`.

    Example:
    >>> optimizer = SGD(1e-2, backbone_lr_multiplier=0.1, paths=["stem_conv/kernel"], momentum=0.9)
    """

    def __init__(self, learning_rate=0.01, backbone_lr_multiplier=1.0, paths=(), name="sgd", **kwargs):
        super().__init__(
            learning_rate=learning_rate,
            backbone_lr_multiplier=backbone_lr_multiplier,
            paths=paths,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_exfuse")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """`keras.optimizers.LossScaleOptimizer` whose file holds the inner optimizer's state once.

    Keras 3.15 writes that state twice, as the wrapper's and as the inner optimizer's own: a `.keras` file of a model in
    mixed_float16 with AdamW is five times the size of its weights instead of three.

    Args:
        inner_optimizer, ...: As in `keras.optimizers.LossScaleOptimizer`.

    Example:
    >>> import keras
    >>> from keras_exfuse.training.schedules import LossScaleOptimizer
    >>> type(LossScaleOptimizer(keras.optimizers.SGD(0.1)).inner_optimizer).__name__
    'SGD'
    """

    def save_own_variables(self, store):
        for number, variable in enumerate(self._variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store):
        for number, variable in enumerate(self._variables):
            variable.assign(store[str(number)])
