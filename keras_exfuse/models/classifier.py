"""Semantic supervision's pre-training: a backbone that learns image classes at all four stages."""

import keras
from keras import ops

from keras_exfuse.backbones import create_backbone
from keras_exfuse.layers import SemanticSupervisionHead
from keras_exfuse.layers._arguments import check_positive
from keras_exfuse.models import _compiling as compiling
from keras_exfuse.models import _labels
from keras_exfuse.models._attached import attach, attached
from keras_exfuse.models._frozen import freeze_layers, frozen_layers
from keras_exfuse.models._inputs import check_channels_last, check_num_classes
from keras_exfuse.models._model import BackboneModel

FEATURES = ("stage", "head")


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SemanticSupervisionClassifier(BackboneModel):
    """Image classifier whose four backbone stages are supervised: images (B, H, W, 3) to logits (B, classes).

    The heads of figure 3 hang on res-2..res-5. In training the weighted sum of their four losses is
    minimised; otherwise only the last head runs, and its float32 logits are the output. The backbone's
    normalization is inside: images are RGB 0..255, of any height and width from 32 up. `fit` takes batches
    of (images, labels): uint8 or float images and integer labels (B,). `compile(optimizer=...)` alone sets
    the cross-entropy and the metrics `top1` and `top5` of the last head.

    After training, `pretrained_backbone()` gives what `keras_exfuse.ExFuse` takes over as its `backbone`,
    weights included.

    Args:
        num_classes: Int, at least 2.
        backbone: Name of a backbone (`keras_exfuse.backbones.BACKBONES`), or a `keras.Model` that turns
            images RGB 0..255 into four maps at strides 4, 8, 16 and 32.
        backbone_weights: `None` (random), `"imagenet"`, or the path of a weights file.
        head_filters: Channels of a head's two 3x3 convolutions: an int, or four of them for res-2 to res-5,
            or `None` for as many as the stage has, which keeps figure 2's widths where the features after
            the head take the stage's place. The paper does not say; `None` is our choice. On a wide backbone
            it is dear (100 million weights on ResNet-50); (64, 128, 256, 512) makes them 16 million.
        head_units: Width of a head's first dense layer. The paper does not say; 1024 is our choice.
        loss_weights: Four numbers of at least 0, the weights of the losses of the heads on res-2 to res-5.
            The paper says that the losses are weighted, not how; ours are 0.3 for the lower three, the
            weight of GoogLeNet's auxiliary classifiers (arXiv 1409.4842), and 1 for the last.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of its range; the text says what is possible.

    Source: ExFuse (arXiv 1804.03821), section 3.1 and figure 3.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> classifier = keras_exfuse.SemanticSupervisionClassifier(10, backbone="efficientnet_lite0")
    >>> classifier.predict(np.zeros((1, 64, 64, 3), "uint8"), verbose=0).shape
    (1, 10)
    >>> model = keras_exfuse.ExFuse(num_classes=21, backbone=classifier.pretrained_backbone(features="head"))
    """

    def __init__(
        self,
        num_classes=1000,
        backbone="resnet50",
        backbone_weights=None,
        head_filters=None,
        head_units=1024,
        loss_weights=(0.3, 0.3, 0.3, 1.0),
        name="semantic_supervision_classifier",
        **kwargs,
    ):
        num_classes = check_num_classes(
            num_classes, "a classifier tells classes apart, and an image has one of them"
        )
        check_channels_last(type(self).__name__)
        filters = _four_widths(head_filters)
        head_units = check_positive("head_units", head_units)
        loss_weights = _four_weights(loss_weights)

        # === Layers ===
        backbone_model = create_backbone(backbone, weights=backbone_weights)
        heads = [
            # Not ExFuse's name for its heads: one model may hold these features and heads of its own.
            SemanticSupervisionHead(num_classes, width, head_units, name=f"res{stage}_head")
            for stage, width in enumerate(filters, start=2)
        ]

        # === Functional Model ===
        image = keras.Input((None, None, 3), name="image")
        stages = backbone_model(image)
        logits = [head(stage) for head, stage in zip(heads, stages, strict=True)]
        trainable, frozen = kwargs.pop("trainable", True), kwargs.pop("frozen", ())
        super().__init__(inputs=image, outputs=logits[-1], name=name, **kwargs)

        self.semantic_supervision_heads = heads
        # Wrapped in a function so that Keras does not track, save and summarise the shared layers twice.
        training_graph = keras.Model(image, logits, name="training_graph")
        self._run_training_graph = lambda inputs: training_graph(inputs, training=True)

        # === Config ===
        self.num_classes = num_classes
        self.backbone = backbone_model
        self._backbone_name = backbone if isinstance(backbone, str) else None
        self.backbone_weights = backbone_weights
        self.head_filters = head_filters if head_filters is None or isinstance(head_filters, int) else filters
        self.head_units = head_units
        self.loss_weights = loss_weights
        self._head_loss = None
        freeze_layers(self, frozen)
        if not trainable:
            self.trainable = False

    def call(self, inputs, training=None, mask=None):
        """The last head's logits (B, num_classes); in training, those of all heads are attached to them."""
        if not training:
            return super().call(inputs, training=training, mask=mask)
        heads = self.training_outputs(inputs)
        return attach(heads[-1], {"heads": ops.stack(heads, axis=1)})

    def training_outputs(self, inputs):
        """The logits of the four heads on res-2 to res-5, each (B, num_classes), for loops of your own.

        `compute_loss(x, y, model(x, training=True))` is the whole objective.

        Args:
            inputs: Images (B, H, W, 3), RGB 0..255.
        """
        return list(self._run_training_graph(inputs))

    def pretrained_backbone(self, features="stage"):
        """The backbone as a model of four maps, for `ExFuse(backbone=...)`.

        Its layers are the classifier's own: training one trains the other. What is saved with the
        segmentation model is independent of the classifier.

        Args:
            features: `"stage"` for the stages' own outputs, or `"head"` for those after the second 3x3
                convolution of each stage's head, table 3's better variant. The rest of the heads is left
                out either way.

        Returns:
            A `keras.Model` from images RGB 0..255 to a list of four maps at strides 4, 8, 16 and 32.

        Raises:
            ValueError: If there are no such features.

        Source: ExFuse (arXiv 1804.03821), section 3.1.
        """
        if features not in FEATURES:
            raise ValueError(f"`features` must be one of {FEATURES}. Received: features={features!r}")
        if features == "stage":
            return self.backbone
        image = keras.Input((None, None, 3), name="image")
        stages = self.backbone(image)
        maps = [
            head.features(stage) for head, stage in zip(self.semantic_supervision_heads, stages, strict=True)
        ]
        return keras.Model(image, maps, name=f"{self.backbone.name}_semantic_supervision")

    # === Training ===

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """Configure training; loss and metrics have defaults.

        Args:
            optimizer: A Keras optimizer or its name.
            loss: `None` for the cross-entropy, or any loss of (labels, logits). In training it is taken of
                each head and summed with `loss_weights`; `evaluate` reports the last head's alone.
            metrics: `None` for the last head's `top1` and `top5`, or a list of metrics of (labels, logits);
                `[]` for none.
            **kwargs: As in `keras.Model.compile`.
        """
        loss = compiling.loss_of_logits(loss, lambda: None)
        self._head_loss = loss
        if metrics is None:
            # With fewer classes than five, the true one is always among the five best.
            best = min(5, self.num_classes)
            metrics = [
                keras.metrics.SparseCategoricalAccuracy(name="top1"),
                keras.metrics.SparseTopKCategoricalAccuracy(k=best, name="top5"),
            ]
        weighted = WeightedHeadsLoss(loss, self.loss_weights)
        super().compile(optimizer=optimizer, loss=weighted, metrics=metrics, **kwargs)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["loss"] = keras.saving.serialize_keras_object(self._head_loss)
        return config

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The weighted sum of the heads' losses; outside of training, the last head's loss.

        Raises:
            ValueError: If, in training, the logits of the other heads are not attached to `y_pred`.
        """
        labels = _labels.as_label_vector(y, y_pred.shape[0])
        logits = y_pred
        if training:
            heads = attached(y_pred)
            if heads is None:
                raise ValueError(
                    "The loss in training needs the logits of all four heads, which travel with those that "
                    "`model(x, training=True)` returns: pass that very tensor, in the same step and the same "
                    "`tf.function`. Received a tensor without them."
                )
            logits = heads["heads"]
        if not self.compiled:
            weighted = WeightedHeadsLoss(self._head_loss, self.loss_weights)
            return sum(self.losses, weighted(labels, logits, sample_weight=sample_weight))
        return super().compute_loss(x, labels, logits, sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        labels = _labels.as_label_vector(y, y_pred.shape[0])
        return super().compute_metrics(x, labels, y_pred, sample_weight)

    def _checked(self, x, y, seen=None):
        return _labels.checked(x, y, self.num_classes)

    # === Serialization ===

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "backbone": self._backbone_config(),
            "backbone_weights": self.backbone_weights,
            "head_filters": self.head_filters,
            "head_units": self.head_units,
            "loss_weights": self.loss_weights,
            "name": self.name,
            "trainable": self.trainable,
            "frozen": frozen_layers(self),
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WeightedHeadsLoss(keras.losses.Loss):
    """Weighted sum of the heads' losses in training; the last head's loss, unweighted, in evaluation.

    Args:
        loss: Loss of one head's (labels, logits); `None` for the cross-entropy of integer labels.
        weights: One number a head.

    Call arguments:
        y_true: Labels (B,).
        y_pred: All heads' logits (B, heads, num_classes), or the last one's (B, num_classes).

    Source: ExFuse (arXiv 1804.03821), section 3.1.

    Example:
    >>> import numpy as np
    >>> from keras_exfuse.models.classifier import WeightedHeadsLoss
    >>> float(WeightedHeadsLoss("mse", (0.5, 2.0))(np.ones((1, 1)), np.zeros((1, 2, 1))))
    2.5
    """

    def __init__(self, loss=None, weights=(0.3, 0.3, 0.3, 1.0), name="weighted_heads_loss", **kwargs):
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.loss = keras.losses.get(loss)
        kwargs.setdefault("reduction", getattr(self.loss, "reduction", "sum_over_batch_size"))
        super().__init__(name=name, **kwargs)
        self.weights = tuple(weights)

    def call(self, y_true, y_pred):
        # One value an image: the reduction, with sample weights, is this loss's own.
        values = getattr(self.loss, "call", self.loss)
        if len(y_pred.shape) == 2:
            return values(y_true, y_pred)
        return sum(weight * values(y_true, y_pred[:, head]) for head, weight in enumerate(self.weights))

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def _four_widths(head_filters):
    widths = (
        [head_filters] * 4 if head_filters is None or isinstance(head_filters, int) else list(head_filters)
    )
    if len(widths) != 4:
        raise ValueError(
            "`head_filters` must be None, one positive int, or four of them for res-2 to res-5. "
            f"Received: head_filters={head_filters!r}"
        )
    return tuple(width if width is None else check_positive("head_filters", width) for width in widths)


def _four_weights(loss_weights):
    try:
        weights = tuple(float(weight) for weight in loss_weights)
    except (TypeError, ValueError):
        weights = ()
    if len(weights) != 4 or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(
            "`loss_weights` must be four numbers of at least 0, not all 0, for the heads on res-2 to res-5. "
            f"Received: loss_weights={loss_weights!r}"
        )
    return weights
