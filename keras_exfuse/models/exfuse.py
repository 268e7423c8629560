"""ExFuse as a functional Keras model: figure 2 of the paper, from the backbone to the score map."""

import keras

from keras_exfuse import layers, losses, metrics, presets
from keras_exfuse._constants import STRIDE, cycled_color
from keras_exfuse.backbones import create_backbone
from keras_exfuse.losses._mask_loss import MaskLoss, loss_value
from keras_exfuse.losses._pixels import per_pixel_weight
from keras_exfuse.models import _compiling as compiling
from keras_exfuse.models import _inputs
from keras_exfuse.models._attached import attach, attached
from keras_exfuse.models._frozen import freeze_layers, frozen_layers
from keras_exfuse.models._model import BackboneModel, dtype_policy
from keras_exfuse.models.config import ModelConfig, check_names, signature
from keras_exfuse.models.decoder import Decoder
from keras_exfuse.models.transfer import transfer_weights


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ExFuse(BackboneModel):
    """ExFuse segmentation model: images (B, H, W, 3), RGB 0..255, to logits (B, H, W, num_classes).

    Any height and width from 32 up; logits are float32 and of the image's size. The backbone's
    normalization is inside. `fit` takes batches of (images, masks): uint8 or float images and integer
    masks (B, H, W) or (B, H, W, 1) with 255 for ignored pixels; the targets of the auxiliary
    losses are derived from the mask. `compile(optimizer=...)` alone sets `keras_exfuse.losses.ExFuseLoss`
    and the metrics `mean_iou` and `pixel_accuracy`; a loss of your own takes the segmentation term's place.

    `keras.models.clone_model` gives a plain functional model of the logits with new weights, as for every
    functional model with a constructor of its own; `ExFuse.from_config(model.get_config())` gives an ExFuse.

    Args:
        num_classes: Int, at least 2, background included.
        backbone: Name of a backbone (`keras_exfuse.backbones.BACKBONES`), or a `keras.Model` that turns
            images RGB 0..255 into four maps at strides 4, 8, 16 and 32.
        backbone_weights: `None` (random), `"imagenet"`, or the path of a weights file.
        semantic_embedding: Whether SEB gates the three lower levels (section 3.2, figure 4).
        channel_resolution_embedding: Whether ECRE stands for the top deconvolution, with its auxiliary loss
            (section 3.3).
        densely_adjacent_prediction: Whether DAP ends the decoder (section 3.4).
        semantic_supervision: Whether the heads of figure 3 hang on the four stages. The paper trains them on
            ImageNet, before segmentation. Here they learn during segmentation training which classes are in
            the image: an adaptation of ours.
        kernel_size: Odd int k of the GCN blocks, or four of them for levels 1 (res-2) to 4 (res-5). The GCN
            paper uses 15 for VOC, ExFuse does not say; 7 is our choice.
        deconvolution_kernel_size: Even int. The paper does not say; 4, started as bilinear interpolation, is
            our choice.
        window_size: Odd int, DAP's k. The paper uses 3.
        adjacent_channels: `"last"` (only the last deconvolution makes window_size^2 * num_classes channels,
            as figure 2 draws it) or `"all"` (the whole decoder does). The paper can be read both ways.
        refinement: Where the last boundary refinement stands when DAP is on: `"after"` DAP, on num_classes
            channels, so that the last deconvolution and DAP are one linear map; `"before"` it, on all its
            channels; `"before_grouped"`, the same within each adjacency group. The paper does not say.
        expansion: What makes ECRE's 4 * num_classes channels: `"convolution"` (3x3, behind level 4's GCN) or
            `"global_convolution"` (the GCN itself). The paper does not say.
        embedding_normalization: Whether SEB's convolutions have batch normalization. The paper does not say.
        embedding_init: `"identity"` or `"random"`, see `keras_exfuse.layers.SemanticEmbeddingBranch`.
        embedding_scaled: Whether SEB's convolutions see their inputs scaled by their fan-in, which keeps the first
            steps of training calm; see `keras_exfuse.layers.SemanticEmbeddingBranch`. The paper does not say.
        embedding_convolution: `"dense"` (the paper's 3x3 convolution in SEB), `"separable"` or `"bottleneck"`, which
            are ours and of fewer weights; see `keras_exfuse.layers.SemanticEmbeddingBranch`.
        score_channels: `None`, or the channels of the decoder's score maps. In the paper they are the classes, and
            every pair of them is connected, so that the cost grows with their square. With a number, for very many
            classes, a 1x1 convolution makes the classes of it, at the image's size and for ECRE's loss: the cost
            then grows linearly. Our choice.
        input_channels: Channels of the images, 0..255 each; other than three for data such as satellite bands. The
            first convolution of pre-trained weights is then widened as `keras_exfuse.backbones.create_backbone` says.
        decoder_init: `"small"` (GCN kernels drawn with a standard deviation of 0.01, boundary refinement started
            as the identity, ECRE's convolution as bilinear upsampling) or `"random"` (Keras's ordinary start of
            convolutions). The paper does not say; small first scores are our choice.
        dtype: Dtype policy of all layers but those of a backbone that comes as a model: `"mixed_bfloat16"` or another
            of Keras's; `None` for the global one. Logits are float32 under every policy.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of its range; the text says what is possible.

    Source: ExFuse (arXiv 1804.03821), figure 2; GCN (arXiv 1703.02719) for the baseline.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=21, backbone="efficientnet_lite0")
    >>> model.predict(np.zeros((1, 33, 47, 3), "uint8"), verbose=0).shape
    (1, 33, 47, 21)
    """

    def __init__(self, num_classes, backbone="resnet50", backbone_weights=None, *, name="exfuse", **options):
        trainable, frozen = options.pop("trainable", True), options.pop("frozen", ())
        check_names(type(self).__name__, options)
        config = ModelConfig(
            num_classes=num_classes, backbone=backbone, backbone_weights=backbone_weights, **options
        )
        _inputs.check_channels_last(type(self).__name__)
        with dtype_policy(config.dtype):
            self._build(config, name)
        self.objective = losses.ExFuseLoss()
        freeze_layers(self, frozen)
        if not trainable:  # True would be said to every layer inside.
            self.trainable = False

    def _build(self, config, name):
        """Figure 2: backbone -> decoder -> logits, and what hangs on it in training."""
        channels = config.input_channels
        backbone = create_backbone(config.backbone, config.backbone_weights, channels)
        decoder = Decoder(config)
        image = keras.Input((None, None, channels), name="image")
        stages = backbone(layers.PadToMultiple(STRIDE, cycled_color(channels), name="pad")(image))
        score_map, channel_resolution = decoder(stages)
        cropped = layers.CropLike(name="crop")([score_map, image])
        # Logits are float32 under any dtype policy: losses, argmax and exports need them so.
        logits = keras.layers.Activation("linear", dtype="float32", name="logits")(cropped)
        super().__init__(inputs=image, outputs=logits, name=name)

        outputs, heads = {"logits": logits}, []
        if channel_resolution is not None:
            outputs["channel_resolution"] = channel_resolution
        if config.semantic_supervision:
            heads = [
                layers.SemanticSupervisionHead(
                    config.num_classes, filters=128, name=f"semantic_supervision_{level}"
                )
                for level in (1, 2, 3, 4)
            ]
            outputs["semantic_supervision"] = [head(stage) for head, stage in zip(heads, stages, strict=True)]
        self.semantic_supervision_heads = heads
        # Wrapped in a function so that Keras does not track, save and summarise the shared layers twice.
        training_graph = keras.Model(image, outputs, name="training_graph")
        self._run_training_graph = lambda inputs: training_graph(inputs, training=True)

        self._config = config
        for argument, value in config.arguments().items():
            if argument not in ("backbone", "dtype"):
                setattr(self, argument, value)
        self.backbone = backbone
        self._backbone_name = config.backbone if isinstance(config.backbone, str) else None

    @classmethod
    def paper(cls, num_classes, backbone="resnext101_lr", **options):
        """The most literal variant of the paper, where its text leaves one.

        GCN kernel 15 (the GCN paper's for VOC), boundary refinement behind the last deconvolution on all of
        DAP's channels, SEB neither normalized nor scaled, and ordinary random initialization. Other arguments as in
        `ExFuse`.
        """
        variant = {
            "kernel_size": 15,
            "refinement": "before",
            "embedding_init": "random",
            "embedding_scaled": False,
            "decoder_init": "random",
        }
        return cls(num_classes, backbone, **{**variant, **options})

    def call(self, inputs, training=None, mask=None):
        """Logits (B, H, W, num_classes); in training, what the loss needs besides is attached to them."""
        if not (training and self._has_auxiliary_outputs):
            return super().call(inputs, training=training, mask=mask)
        outputs = self.training_outputs(inputs)
        return attach(outputs.pop("logits"), outputs)

    @property
    def _has_auxiliary_outputs(self):
        return self.channel_resolution_embedding or self.semantic_supervision

    def training_outputs(self, inputs):
        """All outputs of a training step by name, for loops and losses of your own.

        Args:
            inputs: Images (B, H, W, 3), RGB 0..255.

        Returns:
            A dict of tensors, float32: `"logits"` (B, H, W, num_classes); with ECRE `"channel_resolution"`
            (B, H/16, W/16, num_classes); with semantic supervision `"semantic_supervision"`, a list of four
            (B, num_classes). `compute_loss` takes it in place of the logits.

        Example:
        >>> import numpy as np, keras_exfuse
        >>> model = keras_exfuse.ExFuse(21, backbone="efficientnet_lite0")
        >>> sorted(model.training_outputs(np.zeros((1, 64, 64, 3), "float32")))
        ['channel_resolution', 'logits']
        """
        return dict(self._run_training_graph(inputs))

    # === Training ===

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """Configure training; loss and metrics have defaults.

        Args:
            optimizer: A Keras optimizer or its name.
            loss: `None` for `keras_exfuse.losses.ExFuseLoss()`, one with weights of your own, or any loss of
                (mask, logits), which then takes the place of its segmentation term. The name
                `"sparse_categorical_crossentropy"` means `keras_exfuse.losses.CrossEntropy()`: the model gives
                logits, and ignored pixels are left out.
            metrics: `None` for mean IoU and pixel accuracy (`mean_iou`, `pixel_accuracy`), or a list of
                metrics of (mask, logits); `[]` for none.
            **kwargs: As in `keras.Model.compile`.

        Raises:
            ValueError: If the loss takes probabilities.
        """
        if isinstance(loss, losses.ExFuseLoss):
            self.objective = loss
        else:
            self.objective = losses.ExFuseLoss(
                segmentation=compiling.loss_of_logits(loss, losses.CrossEntropy)
            )
        if metrics is None:
            metrics = self._default_metrics()
        compiling.warn_of_accuracy(metrics)
        super().compile(optimizer=optimizer, loss=self.objective.segmentation, metrics=metrics, **kwargs)

    def _default_metrics(self):
        ignore_class = self.objective.ignore_class
        return [
            metrics.MeanIoU(self.num_classes, ignore_class=ignore_class),
            metrics.PixelAccuracy(self.num_classes, ignore_class=ignore_class),
        ]

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["loss"] = keras.saving.serialize_keras_object(self.objective)
        return config

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The whole objective: segmentation, and in training the auxiliary terms.

        It needs no `compile`, so a loop of your own calls it as it is:
        `model.compute_loss(x, y, model(x, training=True))`.

        Args:
            x: Images; not used.
            y: Integer masks (B, H, W) or (B, H, W, 1).
            y_pred: The logits that the model returned, the very tensor, or a dict of `training_outputs`.
            sample_weight: `None`, or weights of images or pixels, as in `keras_exfuse.losses.ExFuseLoss`.
            training: Whether the auxiliary terms belong to it.

        Returns:
            Scalar tensor.

        Raises:
            ValueError: If the auxiliary outputs are missing in training, or the masks are not as they should be.
        """
        outputs = self._outputs_for_loss(y_pred, training)
        logits = outputs["logits"]
        mask = _inputs.as_label_map(y, logits)
        segmentation, weight = self.objective.segmentation, sample_weight
        if not isinstance(segmentation, MaskLoss):
            # Keras's own losses weigh columns where a weight of images comes.
            weight = per_pixel_weight(sample_weight, mask)
        if self.compiled:
            total = super().compute_loss(x, mask, logits, weight, training=training)
        else:
            total = sum(self.losses, loss_value(segmentation, mask, logits, weight))
        return total + self.objective.auxiliary(mask, outputs, sample_weight)

    def _outputs_for_loss(self, y_pred, training):
        if isinstance(y_pred, dict):
            return y_pred if training else {"logits": y_pred["logits"]}
        auxiliary = attached(y_pred) if training else None
        if training and self._has_auxiliary_outputs and auxiliary is None:
            raise ValueError(
                "The loss in training needs the auxiliary outputs, which travel with the logits that "
                "`model(x, training=True)` returns: pass that very tensor, in the same step and the same "
                "`tf.function`. Received a tensor without them. Pass `model.training_outputs(x)` instead, or "
                "`training=False` for the segmentation term alone."
            )
        return {"logits": y_pred, **(auxiliary or {})}

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, _inputs.as_label_map(y, logits), logits, sample_weight)

    def _check_class_weight(self, class_weight):
        if class_weight is not None:
            raise ValueError(
                "`class_weight` weighs whole images by their one class, and a mask has many. Compile with "
                "loss=keras_exfuse.losses.CrossEntropy(class_weights=[...]), one number for each class."
            )

    def _checked(self, x, y, seen=None):
        ignore_class = self.objective.ignore_class
        return _inputs.checked(x, y, self.num_classes, ignore_class, seen, self.input_channels)

    def _seen_labels(self):
        return _inputs.seen_labels(self.num_classes, self.objective.ignore_class)

    # === Presets ===

    @classmethod
    def presets(cls):
        """Dict of the trained models that come with the package: name, and what it is in a line.

        Example:
        >>> import keras_exfuse
        >>> list(keras_exfuse.ExFuse.presets())
        ['exfuse_efficientnet_lite0.voc2012_animals']
        """
        return presets.preset_names()

    @classmethod
    def from_preset(cls, preset, num_classes=None):
        """A trained model, offline.

        Args:
            preset: One of `ExFuse.presets()`, or a folder that `save_to_preset` wrote.
            num_classes: For another number of classes, to train on: all weights are taken over but those whose
                shape depends on it (`keras_exfuse.transfer_weights` lists them). `None` keeps the classes.

        Returns:
            An `ExFuse`.

        Raises:
            ValueError: If there is no such preset, or its weights do not fit.

        Example:
        >>> import keras_exfuse
        >>> model = keras_exfuse.ExFuse.from_preset("exfuse_efficientnet_lite0.voc2012_animals")
        >>> model.num_classes
        21
        """
        model = presets.load_preset(cls, preset)
        if num_classes is None or num_classes == model.num_classes:
            return model
        other = type(model).from_config({**model.get_config(), "num_classes": num_classes})
        transfer_weights(model, other)
        return other

    def save_to_preset(self, folder, class_names=None, dtype="float32"):
        """Write the model's configuration and weights to a folder for `from_preset`.

        Args:
            folder: Where to; a preset that is there is replaced, but its `README.md` stays.
            class_names: Sequence of a name for each class, or `None`.
            dtype: `"float32"`, or `"float16"` for half the size.

        Returns:
            The folder.

        Raises:
            ValueError: If the folder holds something else, or a weight is too large for the type.
        """
        return presets.save_preset(self, folder, class_names, dtype)

    # === Serialization ===

    def get_config(self):
        return {
            **self._config.arguments(),
            "backbone": self._backbone_config(),
            "backbone_weights": self.backbone_weights,
            "dtype": self.dtype_policy.name,
            "name": self.name,
            "trainable": self.trainable,
            "frozen": frozen_layers(self),
        }


ExFuse.__signature__ = signature("exfuse")
