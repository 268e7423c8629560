"""The baseline of the paper."""

import keras

from keras_exfuse.models.config import signature
from keras_exfuse.models.exfuse import ExFuse

IDEAS = (
    "semantic_embedding",
    "channel_resolution_embedding",
    "densely_adjacent_prediction",
    "semantic_supervision",
)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class GCN(ExFuse):
    """Global Convolutional Network: the baseline of ExFuse, without its four ideas.

    Args:
        num_classes: Int, at least 2, background included.
        backbone: As in `ExFuse`.
        backbone_weights: As in `ExFuse`.
        name: Name of the model.
        **options: The other arguments of `ExFuse`, but for the four ideas: `kernel_size`,
            `deconvolution_kernel_size`, `decoder_init`, `score_channels` and `dtype` matter here.

    Raises:
        ValueError: If one of the four ideas is switched on, or an argument is out of its range.

    Source: GCN (arXiv 1703.02719), figure 2.

    Example:
    >>> import keras_exfuse
    >>> keras_exfuse.GCN(21, backbone="efficientnet_lite0").semantic_embedding
    False
    """

    def __init__(self, num_classes, backbone="resnet50", backbone_weights=None, *, name="gcn", **options):
        for idea in IDEAS:
            if options.get(idea):
                raise ValueError(
                    f"GCN is without `{idea}`. Use `ExFuse({idea}=True, ...)` with the others off."
                )
        off = dict.fromkeys(IDEAS, False)
        super().__init__(num_classes, backbone, backbone_weights, name=name, **{**options, **off})

    def get_config(self):
        return {name: value for name, value in super().get_config().items() if name not in IDEAS}


GCN.__signature__ = signature("gcn", without=IDEAS)
