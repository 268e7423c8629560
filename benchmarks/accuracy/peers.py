"""Other decoders on our backbones, for comparisons: KerasHub's DeepLabV3+ and a plain U-Net.

pip install 'keras-exfuse[bench]'
"""

from collections.abc import Callable

import keras
from keras import layers

from keras_exfuse.backbones import create_backbone


def deeplab_v3_plus(num_classes: int, backbone: str, weights: str | None) -> keras.Model:
    """KerasHub's DeepLabV3+ on one of our backbones at output stride 16.

    The stride of the last stages becomes a dilation, as the paper of DeepLabV3+ and segmentation_models.pytorch
    have it; KerasHub's own argument for the backbone's levels calls the last one P4 then.

    Args:
        num_classes: Number of classes.
        backbone: `"efficientnet_lite0"` or `"resnet50"`.
        weights: `"imagenet"`, a weights file, or None.

    Returns:
        A model from RGB 0..255, sides multiples of 16, to logits.
    """
    import keras_hub

    network_backbone = dilated(backbone, weights)
    low, *_, high = network_backbone.outputs
    # What KerasHub asks of a backbone; it takes any Keras model that has this attribute.
    network_backbone.pyramid_outputs = {"P2": low, "P4": high}
    features = keras_hub.models.DeepLabV3Backbone(
        image_encoder=network_backbone,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[6, 12, 18],
    )
    logits = layers.Conv2D(num_classes, 1, name="logits")(features.output)
    model = keras.Model(features.input, logits, name="deeplab_v3_plus")
    model.backbone = network_backbone
    return model


# How the names of the last stage with a stride begin.
LAST_STRIDES = {"efficientnet_lite0": "block11_", "resnet50": "res5_"}


def dilated(backbone: str, weights: str | None) -> keras.Model:
    """A backbone at output stride 16: the last stride is 1, and what follows it has a dilation of 2."""
    if backbone not in LAST_STRIDES:
        raise ValueError(f"`backbone` must be one of {list(LAST_STRIDES)}. Received: backbone={backbone!r}")
    source = create_backbone(backbone, weights)
    names = [layer.name for layer in source.layers]
    first = next(i for i, name in enumerate(names) if name.startswith(LAST_STRIDES[backbone]))
    last = set(names[first:])

    def clone(layer):
        config = layer.get_config()
        if layer.name not in last:
            return type(layer).from_config(config)
        if layer.name.endswith("_pad"):
            return layers.Identity(name=layer.name)
        if "strides" in config:
            config["strides"] = (1, 1)
        if config.get("kernel_size", (1, 1)) == (1, 1):
            return type(layer).from_config(config)
        options = {"padding": "same", "dilation_rate": 2, "use_bias": False, "name": layer.name}
        if isinstance(layer, layers.DepthwiseConv2D):
            return layers.DepthwiseConv2D(layer.kernel_size, **options)
        return layers.Conv2D(layer.filters, layer.kernel_size, **options)

    copy = keras.models.clone_model(source, clone_function=clone)
    copy.set_weights(source.get_weights())
    return copy


def unet(num_classes: int, backbone: str, weights: str | None) -> keras.Model:
    """A plain U-Net decoder: double, join with the next map, two convolutions; 256 channels down to 16.

    The shape of segmentation_models.pytorch's U-Net, but for the backbone's stride-2 map, which ours does not give.

    Args:
        num_classes: Number of classes.
        backbone: Name of an network_backbone.
        weights: `"imagenet"`, a weights file, or None.

    Returns:
        A model from RGB 0..255, sides multiples of 32, to logits.
    """
    network_backbone = create_backbone(backbone, weights)
    *skips, x = network_backbone.outputs
    for filters, skip in zip((256, 128, 64, 32, 16), [*reversed(skips), None, None], strict=True):
        x = layers.UpSampling2D(2)(x)
        if skip is not None:
            x = layers.Concatenate()([x, skip])
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
    logits = layers.Conv2D(num_classes, 3, padding="same", name="logits")(x)
    model = keras.Model(network_backbone.inputs, logits, name="unet")
    model.backbone = network_backbone
    return model


PEERS: dict[str, Callable[[int, str, str | None], keras.Model]] = {
    "deeplab_v3_plus_kerashub": deeplab_v3_plus,
    "unet": unet,
}
