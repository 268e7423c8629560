"""Semantic supervision: an image classification head on a backbone stage."""

import keras

from keras_exfuse._kernels import Conv2D
from keras_exfuse.layers._arguments import check_positive


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SemanticSupervisionFeatures(keras.layers.Layer):
    """The two 3x3 convolutions of the head: the part whose output can take the stage's place.

    It is a layer of its own so that a backbone keeps it, with its weights, when the rest of the head is
    removed after pre-training.

    Args:
        filters: Channels of both convolutions, or `None` for as many as the stage has.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, H, W, filters).

    Source: ExFuse (arXiv 1804.03821), section 3.1, figure 3. The paper does not say how wide the convolutions
        are; ReLU after both is our choice.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> from keras_exfuse.layers.semantic_supervision import SemanticSupervisionFeatures
    >>> tuple(SemanticSupervisionFeatures()(np.zeros((2, 8, 8, 16), "float32")).shape)
    (2, 8, 8, 16)
    """

    def __init__(self, filters=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = None if filters is None else check_positive("filters", filters)

    def build(self, input_shape):
        filters = self.filters or input_shape[-1]
        shape = {"padding": "same", "activation": "relu"}
        self.first = Conv2D(filters, 3, name="first", dtype=self.dtype_policy, **shape)
        self.second = Conv2D(filters, 3, name="second", dtype=self.dtype_policy, **shape)
        self.first.build(input_shape)
        self.second.build((*input_shape[:3], filters))
        super().build(input_shape)

    def call(self, inputs, training=None):
        return self.second(self.first(inputs, training=training), training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.filters or input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SemanticSupervisionHead(keras.layers.Layer):
    """Classifies the whole image from one stage: 3x3 conv, 3x3 conv, global pool, dense, dense(classes).

    Args:
        num_classes: Positive int, the outputs.
        filters: Channels of both convolutions, or `None` for as many as the stage has. The paper does not say.
        units: Width of the first dense layer. The paper does not say; 256 is our choice.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        Logits (B, num_classes), float32 under any dtype policy.

    Source: ExFuse (arXiv 1804.03821), section 3.1, figure 3. ReLU after both convolutions and the first
        dense layer is our choice. `features(x)` gives what stands after the second convolution, which table
        3's better variant takes instead of the stage's own output.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> head = keras_exfuse.layers.SemanticSupervisionHead(num_classes=20, filters=32)
    >>> tuple(head(np.zeros((2, 8, 8, 16), "float32")).shape)
    (2, 20)
    """

    def __init__(self, num_classes, filters=None, units=256, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = check_positive("num_classes", num_classes)
        self.filters = None if filters is None else check_positive("filters", filters)
        self.units = check_positive("units", units)
        # Its name says whose it is: one model can hold the features of four heads.
        self.convolutions = SemanticSupervisionFeatures(
            self.filters, name=f"{self.name}_features", dtype=self.dtype_policy
        )

    def build(self, input_shape):
        if not self.convolutions.built:
            self.convolutions.build(input_shape)
        filters = self.convolutions.compute_output_shape(input_shape)[-1]
        policy = self.dtype_policy
        self.pool = keras.layers.GlobalAveragePooling2D(data_format="channels_last", dtype=policy)
        self.hidden = keras.layers.Dense(self.units, activation="relu", name="hidden", dtype=policy)
        self.classifier = keras.layers.Dense(self.num_classes, name="classifier", dtype="float32")
        self.hidden.build((input_shape[0], filters))
        self.classifier.build((input_shape[0], self.units))
        super().build(input_shape)

    @property
    def first(self):
        """The first 3x3 convolution; there once the head is built."""
        return self.convolutions.first

    @property
    def second(self):
        """The second 3x3 convolution; there once the head is built."""
        return self.convolutions.second

    def features(self, inputs, training=None):
        """The map (B, H, W, filters) after the second convolution, of arrays or in a functional model."""
        return self.convolutions(inputs, training=training)

    def call(self, inputs, training=None):
        return self.classifier(self.hidden(self.pool(self.features(inputs, training=training))))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def compute_output_spec(self, inputs, training=None):
        # Float32 whatever the policy: losses need it.
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "units": self.units,
        }
