"""Other people's networks as backbones: KerasHub, KerasCV, keras.applications, any model of four maps."""

import difflib
from collections.abc import Sequence

import keras

from keras_exfuse.backbones.normalization import ImageNormalization

STRIDES = (4, 8, 16, 32)
LEVELS = ("P2", "P3", "P4", "P5")
PROBE = (128, 256)  # height and width to try a model with: multiples of 32, and not square


def adapt_backbone(model: keras.Model) -> keras.Model:
    """Turn a model into a backbone, if it is not one yet.

    Args:
        model: a KerasHub backbone with `pyramid_outputs`, a KerasCV backbone with `pyramid_level_inputs`, or
            any model from one image (batch, height, width, 3) to four maps at strides 4, 8, 16 and 32.
            It is given RGB 0..255; where it wants something else, wrap it in `with_normalization`.

    Returns:
        A model whose output is a list of the four maps. The layers, and so the weights, are the given ones.

    Raises:
        ValueError: no four maps at these strides; the text lists the shapes found.

    Example:
        >>> from keras_exfuse.backbones import create_backbone
        >>> adapt_backbone(create_backbone("efficientnet_lite0")).name
        'efficientnet_lite0'
    """
    if isinstance(getattr(model, "pyramid_outputs", None), dict):
        outputs = _levels(model, model.pyramid_outputs)
        backbone = keras.Model(model.inputs, outputs, name=model.name)
    elif isinstance(getattr(model, "pyramid_level_inputs", None), dict):
        names = _levels(model, model.pyramid_level_inputs)
        backbone = from_layers(model, names)
    else:
        backbone = _list_of_maps(model)
    check_backbone(backbone)
    return backbone


def from_layers(model: keras.Model, layer_names: Sequence[str]) -> keras.Model:
    """Make a backbone of a model, for example one of `keras.applications`, by the names of four layers.

    Args:
        model: a functional model without its classifier (`include_top=False`).
        layer_names: the last layer at each of the strides 4, 8, 16 and 32, in this order.

    Returns:
        A model whose output is a list of the outputs of these layers.

    Raises:
        ValueError: a layer is missing, or the maps are not four at strides 4, 8, 16 and 32.

    Example:
        >>> resnet = keras.applications.ResNet50(
        ...     weights=None, include_top=False, input_shape=(None, None, 3)
        ... )
        >>> backbone = from_layers(
        ...     resnet, ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
        ... )
        >>> # These weights were trained on blue, green, red minus a mean:
        >>> backbone = with_normalization(backbone, (123.68, 116.779, 103.939), (1, 1, 1), blue_first=True)
    """
    known = [layer.name for layer in model.layers]
    unknown = [name for name in layer_names if name not in known]
    if unknown:
        nearest = [near for name in unknown for near in difflib.get_close_matches(name, known)] or known[-8:]
        raise ValueError(f"{model.name!r} has no layers {unknown}. It has for example {', '.join(nearest)}.")
    outputs = [model.get_layer(name).output for name in layer_names]
    backbone = keras.Model(model.inputs, outputs, name=model.name)
    check_backbone(backbone)
    return backbone


def with_normalization(
    model: keras.Model,
    mean: Sequence[float],
    standard_deviation: Sequence[float],
    blue_first: bool = False,
) -> keras.Model:
    """Put (image - mean) / standard deviation in front of a backbone that wants normalized images.

    Args:
        model: anything `adapt_backbone` takes.
        mean: of red, green and blue, in units of 0..255; one number a channel.
        standard_deviation: the same; all positive.
        blue_first: hand the channels on as blue, green, red (the older weights of `keras.applications`).

    Returns:
        A backbone whose input is RGB 0..255.

    Example:
        >>> mobile_net = keras.applications.MobileNetV2(  # wants -1..1
        ...     weights=None, include_top=False, input_shape=(None, None, 3)
        ... )
        >>> names = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]
        >>> backbone = with_normalization(from_layers(mobile_net, names), (127.5,) * 3, (127.5,) * 3)
    """
    backbone = adapt_backbone(model)
    images = keras.Input((None, None, len(mean)), name="image")
    normalized = ImageNormalization(
        mean, standard_deviation, reverse_channels=blue_first, name="normalization"
    )(images)
    return keras.Model(images, backbone(normalized), name=f"normalized_{backbone.name}")


def check_backbone(backbone: keras.Model) -> None:
    """Raise a ValueError that lists the shapes unless the model gives four maps at strides 4, 8, 16, 32."""
    height, width = PROBE
    wanted = "A backbone returns four maps (batch, height, width, channels) at the strides 4, 8, 16 and 32"
    channels = input_channels(backbone)
    try:
        outputs = backbone.compute_output_spec(keras.KerasTensor((1, height, width, channels), "float32"))
    except Exception as error:
        raise ValueError(
            f"{wanted}, of an image of any size. {backbone.name!r} does not take one of shape "
            f"(1, {height}, {width}, {channels}): {error}"
        ) from error
    shapes = [tuple(output.shape) for output in keras.tree.flatten(outputs)]
    expected = [(height // stride, width // stride) for stride in STRIDES]
    if [shape[1:3] for shape in shapes if len(shape) == 4] != expected or len(shapes) != len(STRIDES):
        raise ValueError(
            f"{wanted}: for an image (1, {height}, {width}, {channels}), maps of "
            f"{', '.join(f'{rows}x{columns}' for rows, columns in expected)}. {backbone.name!r} returns the "
            f"shapes {shapes}. Choose other layers (keras_exfuse.backbones.from_layers), or a backbone without "
            "dilation, channels last."
        )


def _levels(model: keras.Model, pyramid: dict) -> list:
    missing = [level for level in LEVELS if level not in pyramid]
    if missing:
        raise ValueError(
            f"The backbone {model.name!r} has no pyramid levels {missing} (P2 to P5, strides 4 to 32); it has "
            f"{sorted(pyramid)}."
        )
    return [pyramid[level] for level in LEVELS]


def _list_of_maps(model: keras.Model) -> keras.Model:
    """The model itself if it returns a list; one around it if it returns a tuple, a dictionary or whatever."""
    try:
        outputs = model.output if hasattr(model, "output") else None
    except (AttributeError, ValueError):  # a subclass of Model that was never called
        outputs = None
    if isinstance(outputs, list):
        return model
    images = keras.Input((None, None, input_channels(model)), name="image")
    return keras.Model(images, keras.tree.flatten(model(images)), name=model.name)


def input_channels(model: keras.Model) -> int:
    """The channels of the images that a model takes; 3 where it does not say."""
    shape = getattr(model, "input_shape", None)
    return shape[-1] if isinstance(shape, tuple) and isinstance(shape[-1], int) else 3
