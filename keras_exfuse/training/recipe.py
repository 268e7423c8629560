"""What a training run is made of, as one value that can be stored, compared and read by people."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

from keras_exfuse._files import read_json
from keras_exfuse._palette import VOC_CLASSES
from keras_exfuse.models.config import ModelConfig
from keras_exfuse.recipes import find_recipe
from keras_exfuse.training.settings import check_values, parse_interval, read_toml

_POSITIVE = (
    "steps",
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "crop_size",
    "learning_rate",
    "backbone_learning_rate",
    "power",
    "clip_norm",
    "ohem_ratio",
    "gradient_accumulation_steps",
    "devices",
)
_AT_LEAST_ZERO = (
    "weight_decay",
    "channel_resolution_weight",
    "semantic_supervision_weight",
    "dice_weight",
    "lovasz_weight",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(ModelConfig):
    """Everything that decides a training run: the model, the data and the course.

    Paths are relative to the current directory.

    The data:

    Args:
        data: Folder in VOC layout (or the tar), a list in a .csv or .json file, a folder with `images` and
            `masks` in it, or what `keras-exfuse data prepare` wrote.
        split: The list to train on, of a VOC layout or of what was prepared.
        val_split: The list to validate on after each epoch, or None.
        val_data: Where `val_split` is, if not in `data`; a list, or a folder with `images` and `masks`, needs no
            `val_split`.
        val_fraction: Instead of both, the fraction of the examples that is validated on and not trained on, drawn
            by the seed (`keras_exfuse.data.Examples.split`).
        masks: Folder of the masks, where `data` is the folder of the images.
        val_masks: The same of `val_data`.
        image_suffix: As in `keras_exfuse.data.folder_pair`, for folders of images and masks; so is `mask_suffix`.
        color_table: Colors of the classes in RGB masks, by label; VOC's by default. This and the next four say how
            masks are read, as in `keras_exfuse.data.MaskFormat`.
        nearest_color: Whether other colors mean the nearest one.
        binary: Whether masks are black and white: 255 (or 1) is class 1.
        reduce_zero_label: Whether 0 means no class, and classes are counted from 1.
        value_range: Black and white in images of more than eight bits, as in `keras_exfuse.data.read_image`; a model
            that was trained with it needs the same where it predicts (`--range`).
        remap: Pairs of a stored label and its new one, for example `[[11, 255]]`.
        sbd: SBD's folder or tgz: trains on `trainaug`, VOC's train with SBD's masks added.
        coco: What `keras_exfuse.data.coco_to_voc` wrote (the folder, or its examples.json), added to the rest.
        num_classes: Number of classes, background included.
        class_names: Their names, or `"voc"` for PASCAL VOC's; they are stored with the model.
        crop_size: Side of the random crops in pixels.
        scale: Range of the random scale.
        flip: As in `keras_exfuse.data.Augmentation`; so are `aspect`, `rotation`, `brightness`, `contrast`,
            `saturation`, `hue`, `blur` and `max_class_share`.

    The model; its other settings are the arguments of `keras_exfuse.ExFuse`, by their names:

    Args:
        backbone: Name of the backbone.
        backbone_weights: `"imagenet"`, the path of a weights file, or None (in TOML "none") for random weights.
        dtype: Keras's dtype policy.
        init_from: The model whose weights this run begins with, as `keras_exfuse.load` takes it (the directory of a
            run means the same model): those that fit (`keras_exfuse.transfer_weights`), or the backbone's alone
            from the file of a `SemanticSupervisionClassifier`.
        freeze_backbone: Whether the backbone stays as it is, its statistics included.
        freeze_batch_norm: Whether all batch normalization stays as it is, statistics included.
        synchronized_batch_norm: Whether its statistics are taken over all devices; TensorFlow only.

    The course:

    Args:
        steps: Batches in all; rounded up to whole epochs of equal length. Give this or `epochs`.
        epochs: How often all of the data is seen.
        steps_per_epoch: Batches between validations, instead of all of the data.
        checkpoint_every: How often the state is stored inside an epoch, beside that at its end: `"N minutes"` or
            `"N steps"`. A run that is resumed may have another value.
        batch_size: Images in a batch, over all devices.
        gradient_accumulation_steps: Batches whose gradients are averaged for one step of the optimizer.
        optimizer: `"adamw"` or `"sgd"`.
        momentum: Of SGD.
        learning_rate: Highest rate of the schedule.
        backbone_learning_rate: The backbone's highest rate; the same as `learning_rate` by default.
        weight_decay: Decay of the kernels; biases and batch normalization are spared.
        warmup: Fraction of the run during which the rate rises.
        power: Power of the polynomial decay.
        clip_norm: Largest norm of all gradients together, or None.
        ema: Momentum of the moving average of the weights, for example 0.999, or None. It is the average that
            is validated and stored as `best.keras` and `model.keras`.
        channel_resolution_weight: Weight of ECRE's loss.
        semantic_supervision_weight: Weight of the loss on the heads of semantic supervision.
        label_smoothing: Of the cross-entropy.
        ohem_ratio: Fraction of the pixels, the hardest, that count in the cross-entropy (OHEM).
        class_weights: A number for each class, its weight in the cross-entropy; none for equal weights.
        dice_weight: Weight of `keras_exfuse.losses.Dice`, added to the cross-entropy; 0 leaves it out.
        lovasz_weight: The same of `keras_exfuse.losses.LovaszSoftmax`, which sorts all pixels of a batch for every
            class: a step takes much longer.
        jit: Whether the step is compiled by XLA; None lets Keras choose.
        devices: Devices of this host that share each batch.
        deterministic: Whether operations that give other last digits at each run are avoided. It is slower.
        tensorboard: Whether events for TensorBoard are written, if it is installed.
        seed: Seed of weights, order and crops.

    Raises:
        ValueError: If values contradict each other, or are out of range or of another type.

    Example:
    >>> Recipe(data="leaves", epochs=20, num_classes=3).learning_rate
    0.0005
    """

    data: str
    split: str = "train"
    val_split: str | None = None
    val_data: str | None = None
    val_fraction: float | None = None
    masks: str | None = None
    val_masks: str | None = None
    image_suffix: str = ""
    mask_suffix: str = ""
    color_table: tuple[tuple[int, int, int], ...] = ()
    nearest_color: bool = False
    binary: bool = False
    reduce_zero_label: bool = False
    remap: tuple[tuple[int, int], ...] = ()
    value_range: tuple[float, float] | None = None
    sbd: str | None = None
    coco: str | None = None
    num_classes: int = 21
    class_names: tuple[str, ...] | Literal["voc"] = ()
    crop_size: int = 256
    scale: tuple[float, float] = (0.75, 1.5)
    flip: bool = True
    aspect: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    max_class_share: float | None = None

    # Defaults that differ from the model's own.
    backbone: str = "efficientnet_lite0"
    backbone_weights: str | None = "imagenet"
    dtype: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    init_from: str | None = None
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    synchronized_batch_norm: bool = False

    steps: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    checkpoint_every: str = "10 minutes"
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    learning_rate: float = 5e-4
    backbone_learning_rate: float | None = None
    weight_decay: float = 1e-4
    warmup: float = 0.05
    power: float = 0.9
    clip_norm: float | None = None
    ema: float | None = None
    channel_resolution_weight: float = 0.4
    semantic_supervision_weight: float = 0.1
    label_smoothing: float = 0.0
    ohem_ratio: float = 1.0
    class_weights: tuple[float, ...] = ()
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0
    jit: bool | None = None
    devices: int = 1
    deterministic: bool = False
    tensorboard: bool = True
    seed: int = 0

    def __post_init__(self):
        for name, value in check_values(type(self), vars(self), "the recipe").items():
            object.__setattr__(self, name, value)  # Lists become tuples, whole numbers floats.
        super().__post_init__()
        if self.class_names == "voc":
            object.__setattr__(self, "class_names", VOC_CLASSES)
        if self.backbone_weights == "none":  # TOML has no None.
            object.__setattr__(self, "backbone_weights", None)
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"Give either `steps` or `epochs`, got steps={self.steps}, epochs={self.epochs}."
            )
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be greater than 0, got {value}.")
        try:
            parse_interval(self.checkpoint_every)
        except ValueError as error:
            raise ValueError(f"`checkpoint_every`: {error}") from None
        if not 0 <= self.warmup < 1:
            raise ValueError(f"`warmup` is a fraction of the run within 0..1 (below 1), got {self.warmup}.")
        for name in ("ema", "momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"`{name}` must lie within 0..1 (below 1), got {value}.")
        for name in ("label_smoothing", "ohem_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie within 0..1, got {getattr(self, name)}.")
        for name in _AT_LEAST_ZERO:
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if self.class_weights and len(self.class_weights) != self.num_classes:
            raise ValueError(
                f"`class_weights` has {len(self.class_weights)} numbers for {self.num_classes} classes. Give one for "
                "each class, with the background and without the ignore label (255)."
            )
        if self.val_fraction is not None:
            if not 0 < self.val_fraction < 1:
                raise ValueError(f"`val_fraction` must lie between 0 and 1, got {self.val_fraction}.")
            if self.val_split is not None or self.val_data is not None:
                raise ValueError(
                    "`val_fraction` takes its images from `data`: leave `val_split` and `val_data` out."
                )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"`value_range` must be black and white, in this order, got {self.value_range}.")
        self.mask_format()  # These check their own.
        self.augmentation()
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"There are {len(self.class_names)} class names for {self.num_classes} classes. Give as many names "
                "as classes, with the background and without the ignore label (255)."
            )
        if self.batch_size % self.devices:
            raise ValueError(
                f"`batch_size` is over all devices and must be a multiple of their number: got {self.batch_size} "
                f"for {self.devices} devices."
            )
        if self.devices > 1 and self.gradient_accumulation_steps > 1:
            raise ValueError(
                "`gradient_accumulation_steps` and several `devices` do not go together: raise `batch_size`."
            )

    def augmentation(self):
        """The random changes of images and masks."""
        from keras_exfuse.data import Augmentation

        names = (field.name for field in dataclasses.fields(Augmentation))
        return Augmentation(**{name: getattr(self, name) for name in names})

    def mask_format(self):
        """How masks are read."""
        from keras_exfuse.data import MaskFormat

        options = {name: getattr(self, name) for name in ("nearest_color", "binary", "reduce_zero_label")}
        return MaskFormat(self.color_table or "voc", remap=self.remap, **options)

    def build_model(self):
        """Make the model, its weights drawn from the seed; weights of `init_from` are not in it yet."""
        import keras

        from keras_exfuse.models import ExFuse

        keras.utils.set_random_seed(self.seed)
        return ExFuse(**self.arguments())

    def plan(self, batches: int) -> tuple[int, int]:
        """Divide the run into epochs of equal length.

        Args:
            batches: Batches of all of the data.

        Returns:
            Number of epochs, and batches of each.
        """
        if self.epochs is not None and self.steps_per_epoch is None:
            return self.epochs, batches
        steps = self.steps if self.epochs is None else self.epochs * batches
        assert steps is not None
        if self.steps_per_epoch is not None:
            length = min(self.steps_per_epoch, steps)
            return -(-steps // length), length
        epochs = max(1, round(steps / batches))
        return epochs, -(-steps // epochs)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the recipe") -> "Recipe":
        """The inverse of `to_dict`; what is not given has its default.

        Args:
            values: Settings by name.
            source: Where they come from, for messages.

        Raises:
            ValueError: If a name is unknown, or a value is not as it should be.
        """
        if "data" not in values:
            raise ValueError(f"{source} has no `data`: expected a folder, or a list of examples.")
        return cls(**check_values(cls, values, source))

    @classmethod
    def load(cls, recipe: str | os.PathLike[str]) -> "Recipe":
        """Read a recipe.

        Args:
            recipe: The name of a recipe in the package (`keras_exfuse.recipes.recipe_names`), the path of a .toml
                file, or the `run.json` of a run.

        Raises:
            ValueError: If there is no such recipe (the text lists the names), or a value is not as it should be.

        Example:
        >>> Recipe.load("camvid_lite0").num_classes
        11
        """
        if Path(recipe).suffix == ".json":
            record = read_json(Path(recipe))
            if not isinstance(record.get("recipe"), dict):
                raise ValueError(f"{recipe} is not the {Path(recipe).name} of a run: it has no `recipe`.")
            return cls.from_dict(record["recipe"], str(recipe))
        return cls.from_dict(read_toml(find_recipe(recipe)), str(recipe))
