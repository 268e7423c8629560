"""The batch normalization that backbones and SEB are made of."""

import keras
from keras import ops

from keras_exfuse._kernels import dispatch
from keras_exfuse._kernels.case import case_of


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with the same arguments, weights and numbers, faster to train on a CPU.

    In training, maps (B, H, W, C) are normalized by the fastest form, in float32, as in Keras. Everything else, masks,
    `renorm` and `synchronized` among it, is Keras's own.

    Args:
        axis, momentum, ...: As for `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: A tensor.
        training: Whether to normalize by the batch's own mean and variance, and to update the moving ones.
        mask: As for `keras.layers.BatchNormalization`.

    Returns:
        A tensor of the same shape.

    Example:
    >>> import numpy as np
    >>> from keras_exfuse._kernels import BatchNormalization
    >>> maps = np.array([1.0, 3.0], "float32").reshape(1, 2, 1, 1)
    >>> outputs = np.array(BatchNormalization()(maps, training=True))
    >>> outputs.ravel().round(3).tolist()
    [-1.0, 1.0]
    """

    def call(self, inputs, training=None, mask=None):
        form = self._form(inputs, mask) if training and self.trainable else None
        if form is None:
            return super().call(inputs, training=training, mask=mask)
        inputs = ops.cast(inputs, "float32")
        outputs, mean, variance = form.normalize(inputs, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _form(self, inputs, mask):
        """The form that does what Keras does, or None."""
        plain = (
            mask is None
            and not self.renorm
            and not self.synchronized
            and self.epsilon > 0
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
        )
        return dispatch.choose(dispatch.NORMALIZATION, case_of(inputs, training=True)) if plain else None
