"""ExFuse as a functional Keras model: figure 2 of the paper, from the backbone to the score map."""

import keras

from keras_exfuse import layers, losses, metrics, presets
from keras_exfuse.backbones import create_backbone
from keras_exfuse.layers._arguments import check_odd, check_positive
from keras_exfuse.models import _inputs
from keras_exfuse.models._model import BackboneModel
from keras_exfuse.models.decoder import Decoder

STRIDE = 32

ADJACENT_CHANNELS = ("last", "all")
REFINEMENTS = ("after", "before", "before_grouped")
EXPANSIONS = ("convolution", "global_convolution")
DECODER_INITS = ("small", "random")


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ExFuse(BackboneModel):
    """ExFuse segmentation model: images (B, H, W, 3), RGB 0..255, to logits (B, H, W, num_classes).

    Any height and width from 32 up; logits are float32 and of the image's size. The backbone's
    normalisation is inside. `fit` takes batches of (images, masks): uint8 or float images and integer
    masks (B, H, W) or (B, H, W, 1) with 255 for pixels that do not count; the targets of the auxiliary
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
        embedding_normalization: Whether SEB's convolutions have batch normalisation. The paper does not say.
        embedding_init: `"identity"` or `"random"`, see `keras_exfuse.layers.SemanticEmbeddingBranch`.
        embedding_scaled: Whether SEB's convolutions see their inputs scaled by their fan-in, which keeps the first
            steps of training calm; see `keras_exfuse.layers.SemanticEmbeddingBranch`. The paper does not say.
        score_channels: `None`, or the channels of the decoder's score maps. In the paper they are the classes, and
            every pair of them is connected, so that the cost grows with their square. With a number, for very many
            classes, a 1x1 convolution makes the classes of it, at the image's size and for ECRE's loss: the cost
            then grows linearly. Our choice.
        decoder_init: `"small"` (GCN kernels drawn with a standard deviation of 0.01, boundary refinement started
            as the identity, ECRE's convolution as bilinear upsampling) or `"random"` (Keras's ordinary start of
            convolutions). The paper does not say; small first scores are our choice.
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

    def __init__(
        self,
        num_classes,
        backbone="resnet50",
        backbone_weights=None,
        semantic_embedding=True,
        channel_resolution_embedding=True,
        densely_adjacent_prediction=True,
        semantic_supervision=False,
        kernel_size=7,
        deconvolution_kernel_size=4,
        window_size=3,
        adjacent_channels="last",
        refinement="after",
        expansion="convolution",
        embedding_normalization=False,
        embedding_init="identity",
        embedding_scaled=True,
        decoder_init="small",
        score_channels=None,
        name="exfuse",
        **kwargs,
    ):
        _inputs.check_num_classes(
            num_classes, "background counts as a class, and two classes make a foreground mask"
        )
        kernel_sizes = _four_odd(kernel_size)
        _check_choice("adjacent_channels", adjacent_channels, ADJACENT_CHANNELS)
        _check_choice("refinement", refinement, REFINEMENTS)
        _check_choice("expansion", expansion, EXPANSIONS)
        _check_choice("decoder_init", decoder_init, DECODER_INITS)
        if score_channels is not None:
            check_positive("score_channels", score_channels)
        config = {
            "num_classes": num_classes,
            "backbone": backbone,
            "backbone_weights": backbone_weights,
            "semantic_embedding": semantic_embedding,
            "channel_resolution_embedding": channel_resolution_embedding,
            "densely_adjacent_prediction": densely_adjacent_prediction,
            "semantic_supervision": semantic_supervision,
            "kernel_size": kernel_size if isinstance(kernel_size, int) else tuple(kernel_size),
            "deconvolution_kernel_size": deconvolution_kernel_size,
            "window_size": window_size,
            "adjacent_channels": adjacent_channels,
            "refinement": refinement,
            "expansion": expansion,
            "embedding_normalization": embedding_normalization,
            "embedding_init": embedding_init,
            "embedding_scaled": embedding_scaled,
            "decoder_init": decoder_init,
            "score_channels": score_channels,
        }

        # === Layers ===
        backbone_model = create_backbone(backbone, weights=backbone_weights)
        decoder = Decoder(config)
        heads = []
        if semantic_supervision:
            heads = [
                layers.SemanticSupervisionHead(num_classes, filters=128, name=f"semantic_supervision_{level}")
                for level in (1, 2, 3, 4)
            ]

        # === Functional Model ===
        image = keras.Input((None, None, 3), name="image")
        padded = layers.PadToMultiple(STRIDE, name="pad")(image)
        stages = backbone_model(padded)
        levels = stages
        if semantic_embedding:
            levels = [
                *(_embed(stages, level, config) for level in (1, 2, 3)),
                stages[3],
            ]
        scores = [
            decoder.global_convolution(feature, level, kernel_sizes[level - 1])
            for level, feature in enumerate(levels, start=1)
        ]
        score_map, channel_resolution = decoder.fuse(scores)
        cropped = layers.CropLike(name="crop")([score_map, image])
        # Logits are float32 under any dtype policy: losses, argmax and exports need them so.
        logits = keras.layers.Activation("linear", dtype="float32", name="logits")(cropped)
        super().__init__(inputs=image, outputs=logits, name=name, **kwargs)

        outputs = {"logits": logits}
        if channel_resolution is not None:
            outputs["channel_resolution"] = channel_resolution
        if semantic_supervision:
            outputs["semantic_supervision"] = [head(stage) for head, stage in zip(heads, stages, strict=True)]
        self.semantic_supervision_heads = heads
        # Wrapped in a function so that Keras does not track, save and summarise the shared layers twice.
        training_graph = keras.Model(image, outputs, name="training_graph")
        self._run_training_graph = lambda inputs: training_graph(inputs, training=True)

        # === Config ===
        for argument, value in config.items():
            if argument != "backbone":
                setattr(self, argument, value)
        self.backbone = backbone_model
        self._backbone_name = backbone if isinstance(backbone, str) else None
        self.objective = losses.ExFuseLoss()

    @classmethod
    def paper(cls, num_classes, backbone="resnext101_lr", **kwargs):
        """The most literal variant of the paper, where its text leaves one.

        GCN kernel 15 (the GCN paper's for VOC), boundary refinement behind the last deconvolution on all of
        DAP's channels, SEB without normalisation and with an ordinary random start. Other arguments as in
        `ExFuse`.
        """
        variant = {
            "kernel_size": 15,
            "refinement": "before",
            "embedding_init": "random",
            "embedding_scaled": False,
            "decoder_init": "random",
        }
        return cls(num_classes, backbone=backbone, **{**variant, **kwargs})

    def call(self, inputs, training=None, mask=None):
        """Logits; in training a dict of logits and auxiliary outputs, which only the loss sees."""
        if training and (self.channel_resolution_embedding or self.semantic_supervision):
            return self._run_training_graph(inputs)
        return super().call(inputs, training=training, mask=mask)

    # === Training ===

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """Configure training; loss and metrics have defaults.

        Args:
            optimizer: A Keras optimiser or its name.
            loss: `None` for `keras_exfuse.losses.ExFuseLoss()`, one with weights of your own, or any loss of
                (mask, logits), which then takes the place of its segmentation term.
            metrics: `None` for mean IoU and pixel accuracy (`mean_iou`, `pixel_accuracy`), or a list of
                metrics of (mask, logits); `[]` for none.
            **kwargs: As in `keras.Model.compile`.
        """
        if isinstance(loss, losses.ExFuseLoss):
            self.objective = loss
        else:
            self.objective = losses.ExFuseLoss(segmentation=loss)
        if metrics is None:
            metrics = self._default_metrics()
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
        outputs = y_pred if isinstance(y_pred, dict) else {"logits": y_pred}
        mask = _inputs.as_label_map(y, outputs["logits"])
        total = super().compute_loss(x, mask, outputs["logits"], sample_weight, training=training)
        return total + self.objective.auxiliary(mask, outputs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, _inputs.as_label_map(y, logits), logits, sample_weight)

    def _checked(self, x, y):
        return _inputs.checked(x, y, self.num_classes, self.objective.ignore_class)

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
        return presets.load_preset(cls, preset, num_classes)

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
            "num_classes": self.num_classes,
            "backbone": self._backbone_config(),
            "backbone_weights": self.backbone_weights,
            "semantic_embedding": self.semantic_embedding,
            "channel_resolution_embedding": self.channel_resolution_embedding,
            "densely_adjacent_prediction": self.densely_adjacent_prediction,
            "semantic_supervision": self.semantic_supervision,
            "kernel_size": self.kernel_size,
            "deconvolution_kernel_size": self.deconvolution_kernel_size,
            "window_size": self.window_size,
            "adjacent_channels": self.adjacent_channels,
            "refinement": self.refinement,
            "expansion": self.expansion,
            "embedding_normalization": self.embedding_normalization,
            "embedding_init": self.embedding_init,
            "embedding_scaled": self.embedding_scaled,
            "decoder_init": self.decoder_init,
            "score_channels": self.score_channels,
            "name": self.name,
            "trainable": self.trainable,
        }


def _embed(stages, level, config):
    """SEB of one level: its own stage, gated by every higher one."""
    branch = layers.SemanticEmbeddingBranch(
        normalization=config["embedding_normalization"],
        init=config["embedding_init"],
        scaled=config["embedding_scaled"],
        name=f"semantic_embedding_{level}",
    )
    return branch(stages[level - 1 :])


def _four_odd(kernel_size):
    sizes = [kernel_size] * 4 if isinstance(kernel_size, int) else list(kernel_size)
    if len(sizes) != 4:
        raise ValueError(
            f"`kernel_size` must be one odd int or four of them, for levels 1 to 4. Received: {kernel_size!r}"
        )
    return [check_odd("kernel_size", size) for size in sizes]


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")


def GCN(num_classes, backbone="resnet50", backbone_weights=None, name="gcn", **kwargs):  # noqa: N802
    """The baseline of the paper: `ExFuse` with its four ideas off.

    Args:
        num_classes: Int, at least 2.
        backbone: As in `ExFuse`.
        backbone_weights: As in `ExFuse`.
        name: Name of the model.
        **kwargs: `kernel_size` and `deconvolution_kernel_size` of `ExFuse`.

    Returns:
        An `ExFuse` model.

    Source: GCN (arXiv 1703.02719), figure 2.

    Example:

    >>> import keras_exfuse
    >>> keras_exfuse.GCN(21, backbone="efficientnet_lite0").semantic_embedding
    False
    """
    return ExFuse(
        num_classes,
        backbone=backbone,
        backbone_weights=backbone_weights,
        semantic_embedding=False,
        channel_resolution_embedding=False,
        densely_adjacent_prediction=False,
        semantic_supervision=False,
        name=name,
        **kwargs,
    )
