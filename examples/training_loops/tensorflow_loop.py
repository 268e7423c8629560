"""A training loop of your own in TensorFlow: the model gives logits, `compute_loss` is the whole objective.

KERAS_BACKEND=tensorflow python examples/training_loops/tensorflow_loop.py
"""

import keras
import tensorflow as tf
from synthetic_batches import batches

import keras_exfuse


def train(model, steps=10, learning_rate=1e-3):
    """Train, and return the loss of each step."""
    optimizer = keras.optimizers.AdamW(learning_rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, masks):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = model.compute_loss(images, masks, logits)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply(gradients, model.trainable_weights)
        return loss

    return [
        float(step(tf.constant(images), tf.constant(masks)))
        for images, masks in batches(steps, model.num_classes)
    ]


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    for loss in train(keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")):
        print(f"{loss:.3f}")
