"""A training loop of your own in JAX: the model gives logits, `compute_loss` is the whole objective.

KERAS_BACKEND=jax python examples/training_loops/jax_loop.py
"""

import jax
import keras
from synthetic_batches import batches

import keras_exfuse


def train(model, steps=10, learning_rate=1e-3):
    """Train, and return the loss of each step."""
    optimizer = keras.optimizers.AdamW(learning_rate)
    optimizer.build(model.trainable_variables)

    def loss_and_updates(trained, others, images, masks):
        logits, others = model.stateless_call(trained, others, images, training=True)
        # Both belong to one trace: the auxiliary outputs travel with the logits.
        return model.compute_loss(images, masks, logits), others

    @jax.jit
    def step(trained, others, state, images, masks):
        gradient = jax.value_and_grad(loss_and_updates, has_aux=True)
        (loss, others), gradients = gradient(trained, others, images, masks)
        trained, state = optimizer.stateless_apply(state, gradients, trained)
        return loss, trained, others, state

    variables = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    values = [[variable.value for variable in each] for each in variables]
    losses = []
    for images, masks in batches(steps, model.num_classes):
        loss, *values = step(*values, images, masks)
        losses.append(float(loss))
    for each, new in zip(variables, values, strict=True):
        for variable, value in zip(each, new, strict=True):
            variable.assign(value)
    return losses


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    for loss in train(keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")):
        print(f"{loss:.3f}")
