"""Networks in Keras that are timed against each other, on whichever backend runs."""

from collections.abc import Callable

import keras
import numpy as np

from benchmarks.networks import macs
from benchmarks.networks.worker import Setting
from keras_exfuse import GCN, ExFuse, fuse_for_inference, losses
from keras_exfuse.backbones import create_backbone


def deeplab_v3_plus(setting: Setting) -> keras.Model:
    """KerasHub's DeepLabV3+ on its own ResNet-50, as its documentation builds it."""
    import keras_hub

    if setting.backbone != "resnet50":
        raise ValueError(f"KerasHub's DeepLabV3+ is built on ResNet-50 here, not on {setting.backbone!r}.")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        # Known sizes: with Keras 3.14.0 to 3.15.1 its upsampling fails on TensorFlow where they are not.
        image_shape=(setting.size, setting.size, 3),
    )
    features = keras_hub.models.DeepLabV3Backbone(
        image_encoder=backbone,
        projection_filters=48,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        image_shape=(setting.size, setting.size, 3),
    )
    return keras_hub.models.DeepLabV3ImageSegmenter(features, num_classes=setting.classes)


NETWORKS: dict[str, Callable[[Setting], keras.Model]] = {
    "exfuse": lambda setting: ExFuse(setting.classes, backbone=setting.backbone),
    "exfuse_separable": lambda setting: ExFuse(
        setting.classes, backbone=setting.backbone, embedding_convolution="separable"
    ),
    "gcn": lambda setting: GCN(setting.classes, backbone=setting.backbone),
    "backbone": lambda setting: create_backbone(setting.backbone),
    "deeplab_v3_plus_kerashub": deeplab_v3_plus,
    # Not what its users run, but it tells what fusing does from what the network is.
    "deeplab_v3_plus_kerashub_fused": deeplab_v3_plus,
}
FUSED = ("exfuse", "exfuse_separable", "gcn", "backbone", "deeplab_v3_plus_kerashub_fused")


def inference(candidate: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """A prediction: numpy images in, numpy logits (the backbone: maps) out."""
    keras.config.set_dtype_policy(setting.precision)
    model = NETWORKS[candidate](setting)
    # The network's own: what is fused holds other numbers, transformed kernels among them.
    parameters = facts(model, setting)["million_parameters"]
    if candidate in FUSED:
        model = fuse_for_inference(model)
    images = setting.images()
    known = {**facts(model, setting), "million_parameters": parameters}
    return lambda: model.predict_on_batch(images), known


def training(candidate: str, setting: Setting) -> tuple[Callable[[], object], dict]:
    """A step of AdamW on the default loss, without metrics."""
    model, targets = compiled(candidate, setting)
    images = setting.images()
    return lambda: model.train_on_batch(images, targets), facts(model, setting)


def compiled(candidate: str, setting: Setting) -> tuple[keras.Model, np.ndarray]:
    """A network that is compiled to be trained, and targets for it."""
    keras.config.set_dtype_policy(setting.precision)
    model, targets = NETWORKS[candidate](setting), setting.masks()
    loss: keras.losses.Loss | str = losses.CrossEntropy()
    if isinstance(model, ExFuse):
        loss = losses.ExFuseLoss()
    elif candidate == "backbone":
        means = [keras.layers.GlobalAveragePooling2D()(each) for each in model.outputs]
        model = keras.Model(model.inputs, keras.layers.Concatenate()(means))
        loss, targets = "mse", np.zeros((setting.batch, model.output_shape[-1]), "float32")
    model.compile(optimizer=keras.optimizers.AdamW(1e-4), loss=loss, metrics=[])
    return model, targets


def facts(model: keras.Model, setting: Setting) -> dict:
    """Parameters and MACs of a batch, for the table."""
    cost = setting.batch * macs.total(macs.count(model, setting.size, setting.size))
    return {
        "million_parameters": f"{macs.parameters(model) / 1e6:.2f}",
        "gmacs": f"{cost / 1e9:.2f}",
    }


# === What the machine can do ===


def _matrix_product(side: int = 4096) -> tuple[keras.Model, tuple[int, ...], int]:
    layers = [keras.Input((side,)), keras.layers.Dense(side, use_bias=False)]
    return keras.Sequential(layers), (side, side), side**3


def _convolution(side: int = 128, channels: int = 256) -> tuple[keras.Model, tuple[int, ...], int]:
    layers = [
        keras.Input((side, side, channels)),
        keras.layers.Conv2D(channels, 3, padding="same", use_bias=False),
    ]
    return keras.Sequential(layers), (1, side, side, channels), side * side * 9 * channels**2


CEILINGS = {
    "(matrix product, 4096)": _matrix_product,
    "(3x3 convolution, 256 channels, 128x128)": _convolution,
}


def ceiling(name: str) -> tuple[Callable[[], object], dict]:
    """A large product or a large ResNet-like convolution, in float32."""
    model, shape, cost = CEILINGS[name]()
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    known = {"million_parameters": "", "gmacs": f"{cost / 1e9:.2f}"}
    return lambda: model.predict_on_batch(values), known
