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
        backbone: `"efficientnet_lite0"`.
        weights: `"imagenet"`, a weights file, or None.

    Returns:
        A model from RGB 0..255, sides multiples of 16, to logits.
    """
    import keras_hub

    network_backbone = dilated_lite(backbone, weights)
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


def dilated_lite(backbone: str, weights: str | None) -> keras.Model:
    """An EfficientNet-Lite at output stride 16: the last stride is 1, what follows it has a dilation of 2."""
    source = create_backbone(backbone, weights)
    names = [layer.name for layer in source.layers if layer.name.endswith("_depthwise_conv")]
    dilated = names[names.index("block11_depthwise_conv") :]

    def clone(layer):
        if layer.name == "block11_depthwise_conv_pad":
            return layers.Identity(name=layer.name)
        if layer.name in dilated:
            options = {"padding": "same", "dilation_rate": 2, "use_bias": False, "name": layer.name}
            return layers.DepthwiseConv2D(layer.kernel_size, **options)
        return type(layer).from_config(layer.get_config())

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
