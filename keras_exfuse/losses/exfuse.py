"""The loss of ExFuse: segmentation, the supervised ECRE map, and semantic supervision."""

import keras
from keras import ops

from keras_exfuse import _kernels
from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses._mask_loss import MaskLoss, loss_value, mask_and_weight
from keras_exfuse.losses._pixels import check_ignore_class, label_map, per_pixel_weight, safe_divide
from keras_exfuse.losses.cross_entropy import CrossEntropy

LABEL_RESOLUTIONS = ("map", "image")


def class_presence(mask, num_classes: int, ignore_class: int = IGNORE_CLASS):
    """Which classes a mask holds, as a multi-hot vector: the target of semantic supervision.

    Args:
        mask: Integer labels (B, H, W), 0..num_classes-1 or `ignore_class`.
        num_classes: Number of classes.
        ignore_class: Label of the pixels that are ignored.

    Returns:
        Float32 tensor (B, num_classes) of zeros and ones.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_exfuse.losses import class_presence
    >>> ops.convert_to_numpy(class_presence(np.array([[[0, 2, 255]]]), num_classes=4)).tolist()
    [[1.0, 0.0, 1.0, 0.0]]
    """
    mask = ops.cast(mask, "int32")
    batch = ops.shape(mask)[0]
    # Ignored pixels fall into one more class, which is cut off.
    label = ops.where(ops.equal(mask, ignore_class), num_classes, mask)
    row = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1)) * (num_classes + 1)
    cell = ops.reshape(row + label, (-1,))
    counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=batch * (num_classes + 1))
    counts = ops.reshape(counts, (batch, num_classes + 1))[:, :num_classes]
    return ops.cast(counts > 0, "float32")


def labels_at_stride(mask, stride: int, height, width, ignore_class: int = IGNORE_CLASS):
    """Nearest labels at the resolution of a map of some stride.

    The label of map pixel (i, j) is the mask's at (stride * i + stride // 2, stride * j + stride // 2);
    beyond the mask, where the image was padded, it is `ignore_class`.

    Args:
        mask: Integer labels (B, H, W).
        stride: Positive int.
        height: Height of the map; `height * stride` is at least H.
        width: Width of the map.
        ignore_class: Label of the padding.

    Returns:
        Int32 tensor (B, height, width).

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_exfuse.losses import labels_at_stride
    >>> mask = np.arange(16).reshape(1, 4, 4)
    >>> ops.convert_to_numpy(labels_at_stride(mask, 2, 2, 3)).tolist()
    [[[5, 7, 255], [13, 15, 255]]]
    """
    mask = ops.cast(mask, "int32")
    return _nearest_at_stride(mask - ignore_class, stride, height, width) + ignore_class


def _nearest_at_stride(values, stride, height, width):
    """Nearest values (B, height, width) of (B, H, W), and 0 beyond them."""
    half = stride // 2
    # Image sides are padded by less than one backbone stride (32), see PadToMultiple.
    border = (0, 32)
    padded = ops.pad(values, ((0, 0), border, border))
    picked = padded[:, half::stride, half::stride]
    return picked[:, :height, :width]


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ExFuseLoss(MaskLoss):
    """The composition that ExFuse trains with: segmentation + ECRE's supervision + semantic supervision.

    total = segmentation(mask, logits)
          + channel_resolution_weight * cross_entropy(labels, ECRE's map)
          + semantic_supervision_weight * mean over the four heads of binary_cross_entropy(presence, head)

    Only the terms whose output the model has are added, and the last two in training only: `evaluate` reports
    the segmentation term. All terms ignore the same class and take the same `sample_weight`. ECRE's map takes the
    weight of the nearest pixel, a head the mean weight of the image's labelled pixels; an image without any teaches
    the heads nothing.

    Args:
        segmentation: Loss of the full-resolution logits: a Keras loss, its name, or a function of (mask,
            logits). Defaults to the cross-entropy over the labelled pixels.
        channel_resolution_weight: Float >= 0. The paper does not say; ours is 0.4.
        semantic_supervision_weight: Float >= 0. The paper uses the heads in ImageNet pre-training only;
            training them on class presence during segmentation, and the weight 0.1, are ours.
        label_resolution: Where ECRE's map meets the labels: `"map"` (nearest labels at the map's size) or
            `"image"` (the map's logits resized to the image's size). The paper does not say; ours is
            `"map"`.
        ignore_class: Label of the pixels that are ignored. `None` takes it from the segmentation loss, or 255 where
            that has none.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C), or a dict of them and of auxiliary outputs, see `auxiliary`.
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1).

    Raises:
        ValueError: If an argument is out of its range, or `ignore_class` is not that of the segmentation loss.

    Source: ExFuse (arXiv 1804.03821), sections 3.1 and 3.3.

    Example:
    >>> import keras_exfuse
    >>> loss = keras_exfuse.losses.ExFuseLoss(channel_resolution_weight=0.2)
    >>> loss.get_config()["channel_resolution_weight"]
    0.2
    >>> segmentation = keras_exfuse.losses.CrossEntropy(ignore_class=0)
    >>> keras_exfuse.losses.ExFuseLoss(segmentation=segmentation).ignore_class
    0
    """

    def __init__(
        self,
        segmentation=None,
        channel_resolution_weight=0.4,
        semantic_supervision_weight=0.1,
        label_resolution="map",
        ignore_class=None,
        name="exfuse_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        for argument, value in (
            ("channel_resolution_weight", channel_resolution_weight),
            ("semantic_supervision_weight", semantic_supervision_weight),
        ):
            if not value >= 0:
                raise ValueError(f"`{argument}` must be a number of at least 0. Received: {value!r}")
        if label_resolution not in LABEL_RESOLUTIONS:
            raise ValueError(
                f"`label_resolution` must be one of {LABEL_RESOLUTIONS}. Received: {label_resolution!r}"
            )
        self.segmentation = None if segmentation is None else keras.losses.get(segmentation)
        self.ignore_class = _resolved_ignore_class(self.segmentation, ignore_class)
        if self.segmentation is None:
            self.segmentation = CrossEntropy(ignore_class=self.ignore_class)
        self.channel_resolution_weight = float(channel_resolution_weight)
        self.semantic_supervision_weight = float(semantic_supervision_weight)
        self.label_resolution = label_resolution

    def auxiliary(self, mask, outputs, sample_weight=None):
        """The weighted auxiliary terms.

        Args:
            mask: Integer labels (B, H, W).
            outputs: Dict of the model in training: `"logits"` (B, H, W, C) and any of
                `"channel_resolution"` (B, H/16, W/16, C) and `"semantic_supervision"` (four of (B, C)).
            sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
                (B, H, W, 1).

        Returns:
            Scalar tensor; zero if no auxiliary output is there.

        Raises:
            ValueError: If the weights have another shape.
        """
        total = 0.0
        weight = per_pixel_weight(sample_weight, mask)
        if "channel_resolution" in outputs:
            term = self._channel_resolution(mask, outputs["channel_resolution"], weight)
            total = total + self.channel_resolution_weight * term
        if "semantic_supervision" in outputs:
            term = self._semantic_supervision(mask, outputs["semantic_supervision"], weight)
            total = total + self.semantic_supervision_weight * term
        return total

    def _channel_resolution(self, mask, logits, weight):
        _, height, width, _ = ops.shape(logits)
        if self.label_resolution == "map":
            labels = labels_at_stride(mask, 16, height, width, self.ignore_class)
            weight = None if weight is None else _nearest_at_stride(weight, 16, height, width)
        else:
            _, mask_height, mask_width = ops.shape(mask)
            labels = mask
            logits = _kernels.resize_bilinear(logits, 16 * height, 16 * width)
            logits = logits[:, :mask_height, :mask_width, :]
        return CrossEntropy(ignore_class=self.ignore_class)(labels, logits, sample_weight=weight)

    def _semantic_supervision(self, mask, heads, weight):
        presence = class_presence(mask, heads[0].shape[-1], self.ignore_class)
        valid = ops.cast(ops.not_equal(ops.cast(mask, "int32"), self.ignore_class), "float32")
        labelled = ops.cast(ops.any(valid > 0, axis=(1, 2)), "float32")
        image_weight = labelled
        if weight is not None:
            image_weight = safe_divide(ops.sum(weight * valid, axis=(1, 2)), ops.sum(valid, axis=(1, 2)))
        # Keras's mean is over all images; ours over those with labels.
        image_weight = image_weight * safe_divide(ops.cast(ops.size(labelled), "float32"), ops.sum(labelled))
        # Keras's loss, not a mean of one's own: it takes the number of devices into account.
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        terms = [loss(presence, head, sample_weight=image_weight) for head in heads]
        return sum(terms) / len(terms)

    def call(self, y_true, y_pred):
        """Total loss of a dict of outputs, see `auxiliary`; a tensor stands for the logits alone."""
        outputs = y_pred if isinstance(y_pred, dict) else {"logits": y_pred}
        mask, weight = mask_and_weight(y_true)
        segmentation = loss_value(self.segmentation, mask, outputs["logits"], weight)
        return segmentation + self.auxiliary(label_map(mask, outputs["logits"]), outputs, weight)

    def get_config(self):
        return {
            "name": self.name,
            "segmentation": keras.losses.serialize(self.segmentation),
            "channel_resolution_weight": self.channel_resolution_weight,
            "semantic_supervision_weight": self.semantic_supervision_weight,
            "label_resolution": self.label_resolution,
            "ignore_class": self.ignore_class,
        }


def _resolved_ignore_class(segmentation, ignore_class):
    """The class that all terms ignore: the segmentation loss's, if that has one."""
    own = getattr(segmentation, "ignore_class", None)
    if ignore_class is None:
        return IGNORE_CLASS if own is None else check_ignore_class(own)
    ignore_class = check_ignore_class(ignore_class)
    if own is not None and own != ignore_class:
        raise ValueError(
            "The segmentation loss and the auxiliary losses must ignore the same class. Received: "
            f"ignore_class={ignore_class}, and a segmentation loss with ignore_class={own}. Leave `ignore_class` "
            "out: it is then taken from the segmentation loss."
        )
    return ignore_class
