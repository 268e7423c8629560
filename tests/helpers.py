"""Small things that many tests need: a tiny backbone, deterministic weights, numbers as numpy."""

import keras
import numpy as np
import pytest
from keras import ops


def tiny_backbone(channels=(8, 12, 16, 20), input_channels=3):
    """Four maps at strides 4, 8, 16 and 32 from a handful of weights; RGB 0..255, normalized inside."""
    image = keras.Input((None, None, input_channels))
    maps = []
    x = keras.layers.Rescaling(1 / 128, offset=-1)(image)
    x = keras.layers.AveragePooling2D(2)(x)
    for level, filters in enumerate(channels, start=1):
        x = keras.layers.AveragePooling2D(2)(x)
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"stage_{level}")(x)
        maps.append(x)
    return keras.Model(image, maps, name="tiny_backbone")


def small_hub_resnet():
    """A KerasHub ResNet of one block a stage; the test that asks for it is skipped without KerasHub."""
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed (extra: hub)")
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )


def draw_weights(layer, seed=0, scale=0.2):
    """Set every weight from numpy's generator: the same values on every backend."""
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.path.endswith("variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(generator.normal(0.0, scale, weight.shape))
    return layer


def random_maps(*shapes, seed=0):
    """Standard normal float32 arrays."""
    generator = np.random.default_rng(seed)
    maps = [generator.normal(size=shape).astype("float32") for shape in shapes]
    return maps[0] if len(maps) == 1 else maps


def random_batch(batch=2, height=64, width=96, num_classes=5, seed=0):
    """Images (B, H, W, 3) and masks (B, H, W), both uint8; a stripe of the masks is ignored."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (batch, height, width, 3), dtype="uint8")
    masks = generator.integers(0, num_classes, (batch, height, width), dtype="uint8")
    masks[:, :5] = 255
    return images, masks


def as_numpy(tensor):
    """Any backend's tensor as a numpy array, out of its gradient graph."""
    return ops.convert_to_numpy(tensor)


def rebuild(layer):
    """The layer made again from its own configuration."""
    config = keras.saving.serialize_keras_object(layer)
    return keras.saving.deserialize_keras_object(config)
