"""Every argument of `ExFuse`, written once: signature, configuration, recipe and command line come from here."""

import dataclasses
import difflib
import inspect
import typing
from typing import Any, Literal

import keras

from keras_exfuse.layers._arguments import check_odd, check_positive
from keras_exfuse.models._inputs import check_num_classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The arguments of `keras_exfuse.ExFuse`, checked; its docstring explains them.

    Raises:
        ValueError: If an argument is out of its range; the text says what is possible.

    Example:
    >>> from keras_exfuse.models.config import ModelConfig
    >>> ModelConfig(num_classes=21, kernel_size=(15, 15, 7, 7)).kernel_sizes
    (15, 15, 7, 7)
    """

    num_classes: int
    backbone: str | Any = "resnet50"
    backbone_weights: str | None = None
    semantic_embedding: bool = True
    channel_resolution_embedding: bool = True
    densely_adjacent_prediction: bool = True
    semantic_supervision: bool = False
    kernel_size: int | tuple[int, int, int, int] = 7
    deconvolution_kernel_size: int = 4
    window_size: int = 3
    adjacent_channels: Literal["last", "all"] = "last"
    refinement: Literal["after", "before", "before_grouped"] = "after"
    expansion: Literal["convolution", "global_convolution"] = "convolution"
    embedding_normalization: bool = False
    embedding_init: Literal["identity", "random"] = "identity"
    embedding_scaled: bool = True
    embedding_convolution: Literal["dense", "separable", "bottleneck"] = "dense"
    decoder_init: Literal["small", "random"] = "small"
    score_channels: int | None = None
    input_channels: int = 3
    dtype: str | None = None

    def __post_init__(self):
        kinds = typing.get_type_hints(ModelConfig)
        for name, kind in kinds.items():
            value = getattr(self, name)
            if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
                choices = typing.get_args(kind)
                raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
            if kind is bool and not isinstance(value, bool):
                raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
        reason = "background counts as a class, and two classes make a foreground mask"
        changed = {
            "num_classes": check_num_classes(self.num_classes, reason),
            "input_channels": check_positive("input_channels", self.input_channels),
        }
        if self.score_channels is not None:
            changed["score_channels"] = check_positive("score_channels", self.score_channels)
        if self.dtype is not None:
            changed["dtype"] = keras.dtype_policies.get(self.dtype).name
        changed["kernel_size"] = _odd_sizes(self.kernel_size)
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    @property
    def kernel_sizes(self) -> tuple[int, int, int, int]:
        """The kernel size of the GCN block of each level, 1 to 4."""
        return (self.kernel_size,) * 4 if isinstance(self.kernel_size, int) else self.kernel_size

    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return {name: getattr(self, name) for name in argument_names()}


def argument_names() -> tuple[str, ...]:
    """The names of the arguments, in order."""
    return tuple(field.name for field in dataclasses.fields(ModelConfig))


def check_names(model: str, given) -> None:
    """Raise a `TypeError` that names the nearest argument unless all names are arguments of the model."""
    for name in given:
        if name not in argument_names():
            near = difflib.get_close_matches(name, argument_names(), 1, cutoff=0.5)
            hint = (
                f"Did you mean {near[0]!r}?" if near else f"Its arguments are {', '.join(argument_names())}."
            )
            raise TypeError(f"{model} has no argument {name!r}. {hint}")


def signature(name: str, without=()) -> inspect.Signature:
    """The signature of a model's constructor, for `help` and notebooks: the first three may be positional."""
    parameters = []
    for number, field in enumerate(dataclasses.fields(ModelConfig)):
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if number < 3 else inspect.Parameter.KEYWORD_ONLY
        default = field.default if field.default is not dataclasses.MISSING else inspect.Parameter.empty
        if field.name not in without:
            parameters.append(inspect.Parameter(field.name, kind, default=default))
    parameters.append(inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=name))
    return inspect.Signature(parameters)


def _odd_sizes(kernel_size):
    """One odd int, or four of them as a tuple."""
    if not isinstance(kernel_size, (tuple, list)):
        return check_odd("kernel_size", kernel_size)
    if len(kernel_size) != 4:
        raise ValueError(
            f"`kernel_size` must be one odd int or four of them, for levels 1 to 4. Received: {kernel_size!r}"
        )
    return tuple(check_odd("kernel_size", size) for size in kernel_size)
