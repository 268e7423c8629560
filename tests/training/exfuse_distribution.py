"""ExFuse with all its losses on one device and on two, in a process that has two.

    python -m tests.training.exfuse_distribution FILE

writes the loss after each step, by case and number of devices, as JSON.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import keras
import numpy as np

from keras_exfuse import ExFuse, losses
from keras_exfuse.training import distribution
from keras_exfuse.training.freezing import batch_norms
from tests.helpers import tiny_backbone

STEPS = 4


def curve(count, segmentation, same):
    """Losses of a few steps on a batch without void: ECRE's mean is taken by each device of its own pixels.

    With `same` each device gets the same images: the losses of regions are no means over pixels.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (4, 64, 64, 3)).astype("float32")
    masks = generator.integers(0, 3, (4, 8, 8), dtype="uint8").repeat(8, axis=1).repeat(8, axis=2)
    if same:
        images[2:], masks[2:] = images[:2], masks[:2]
    else:
        masks[2:] = np.maximum(masks[2:], 1)  # Other classes in the second half: weights differ.
    with distribution.several_devices(count):
        keras.utils.set_random_seed(1)
        model = ExFuse(3, backbone=tiny_backbone(), kernel_size=3, semantic_supervision=True)
        distribution.synchronize_batch_norm(batch_norms(model), count)
        loss = losses.ExFuseLoss(segmentation=segmentation, semantic_supervision_weight=1.0)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
        history = model.fit(images, masks, batch_size=4, epochs=STEPS, shuffle=False, verbose=0)
    return history.history["loss"]


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    regions = [losses.CrossEntropy(), losses.Dice(), losses.LovaszSoftmax()]
    weighted = distribution.MeanOverDevices(losses.CrossEntropy(class_weights=[1.0, 9.0, 0.0]))
    cases = {
        "pixels": (losses.CrossEntropy(), False),
        "region": (losses.Dice(), True),
        "sum": (losses.WeightedSum(regions), True),
        "weighted": (weighted, False),
        "weighted_in_sum": (losses.WeightedSum([weighted]), False),
    }
    curves = {name: [curve(count, *case) for count in (1, 2)] for name, case in cases.items()}
    Path(sys.argv[1]).write_text(json.dumps(curves))
