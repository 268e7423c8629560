"""What a training run is made of, as one value that can be stored, compared and read by people."""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Args:
        data: Folder in VOC layout.
        split: The list that is trained on.
        val_split: The list that is validated on after each pass, or None.
        num_classes: Number of classes, background included.
        class_names: Their names; they are stored with the model.
        backbone: Name of the encoder.
        backbone_weights: `"imagenet"`, the path of a weights file, or None for random weights.
        semantic_embedding: Switch of the model.
        channel_resolution_embedding: Switch of the model.
        densely_adjacent_prediction: Switch of the model.
        semantic_supervision: Switch of the model.
        kernel_size: Odd kernel size of the global convolutions.
        steps: Batches in all; rounded up to whole passes of equal length. Give this or `epochs`.
        epochs: Passes over the data.
        batch_size: Pictures in a batch.
        crop_size: Side of the random crops in pixels.
        scale: Range of the random scale.
        learning_rate: Highest rate of the schedule.
        encoder_learning_rate: The encoder's highest rate; the same as `learning_rate` by default.
        weight_decay: AdamW's weight decay.
        warmup: Share of the run during which the rate rises.
        seed: Seed of weights, order and crops.

    Raises:
        ValueError: If values contradict each other or are out of range.
    """

    data: str
    split: str = "train"
    val_split: str | None = None
    num_classes: int = 21
    class_names: tuple[str, ...] = ()
    backbone: str = "resnet50"
    backbone_weights: str | None = None
    semantic_embedding: bool = True
    channel_resolution_embedding: bool = True
    densely_adjacent_prediction: bool = True
    semantic_supervision: bool = False
    kernel_size: int = 7
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 8
    crop_size: int = 256
    scale: tuple[float, float] = (0.75, 1.5)
    learning_rate: float = 5e-4
    encoder_learning_rate: float | None = None
    weight_decay: float = 1e-4
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"Give either `steps` or `epochs`, got steps={self.steps}, epochs={self.epochs}."
            )
        for name in ("steps", "epochs", "batch_size", "crop_size", "learning_rate", "encoder_learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be greater than 0, got {value}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"`warmup` is a share of the run within 0..1 (below 1), got {self.warmup}.")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"There are {len(self.class_names)} class names for {self.num_classes} classes. Give as many names "
                "as classes, background included and void (255) not."
            )

    def build_model(self):
        """Make the model, its weights drawn from the seed."""
        import keras

        from keras_exfuse.models import ExFuse

        keras.utils.set_random_seed(self.seed)
        return ExFuse(
            num_classes=self.num_classes,
            backbone=self.backbone,
            backbone_weights=self.backbone_weights,
            semantic_embedding=self.semantic_embedding,
            channel_resolution_embedding=self.channel_resolution_embedding,
            densely_adjacent_prediction=self.densely_adjacent_prediction,
            semantic_supervision=self.semantic_supervision,
            kernel_size=self.kernel_size,
        )

    def plan(self, batches: int) -> tuple[int, int]:
        """Divide the run into passes of equal length.

        Args:
            batches: Batches of one pass over the data.

        Returns:
            Number of passes, and batches of each.
        """
        if self.epochs is not None:
            return self.epochs, batches
        assert self.steps is not None
        passes = max(1, round(self.steps / batches))
        return passes, -(-self.steps // passes)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`."""
        arguments = dict(values)
        for name in ("class_names", "scale"):
            if name in arguments:
                arguments[name] = tuple(arguments[name])
        return cls(**arguments)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read the recipe of a run folder's `run.json`."""
        return cls.from_dict(json.loads(Path(path).read_text())["recipe"])
