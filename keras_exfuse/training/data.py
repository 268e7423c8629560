"""The examples and batches of a run."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from keras_exfuse.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a run trains and validates on.

    Args:
        recipe: The run.
        examples: What is trained on: a list of examples, or records.
        validation: What is validated on, or None.
    """

    recipe: Recipe
    examples: Any
    validation: Any

    @property
    def batches(self) -> int:
        """Batches of all of the data."""
        return self._order().batches(self.recipe.batch_size, self._whole_batches)

    @property
    def _whole_batches(self) -> bool:
        return self.recipe.devices > 1  # Each device gets its part of every batch.

    def _order(self):
        from keras_exfuse.data.order import EpochOrder

        return EpochOrder(len(self.examples), shuffle=True, seed=self.recipe.seed)

    def names(self, step: int) -> list[str]:
        """Names of the images in a batch, counted from 0 over the whole run."""
        _, indices = self._order().of_batch(step, self.recipe.batch_size, self._whole_batches)
        return [self.examples.names[index] for index in indices]

    def checksum(self) -> str:
        """Says whether the images, by name and order, are the same when a run goes on."""
        return hashlib.sha256("\n".join(self.examples.names).encode()).hexdigest()[:16]

    def training_batches(self, start: int) -> Any:
        """Batches without end, from one on; a run that goes on gets those that it would have had."""
        return self._batches_of(
            self.examples,
            augmentation=self.recipe.augmentation(),
            shuffle=True,
            seed=self.recipe.seed,
            drop_remainder=self._whole_batches,
            start=start,
        )

    def validation_batches(self) -> Any:
        """Whole images, padded; or None."""
        if self.validation is None:
            return None
        batches = self._batches_of(self.validation, pad_to_multiple=64)
        return batches if self.recipe.devices == 1 else _filled(batches, self.recipe.batch_size)

    def _batches_of(self, source: Any, **options: Any) -> Any:
        from keras_exfuse.data import examples_dataset, records_dataset
        from keras_exfuse.data.datasets.records import Records

        options["batch_size"] = self.recipe.batch_size
        if isinstance(source, Records):
            return records_dataset(source.folder, **options)
        return examples_dataset(source, num_classes=self.recipe.num_classes, **options)


def training_data(recipe: Recipe) -> TrainingData:
    """Find the examples of a run, and check that their files are there.

    Raises:
        ValueError: If the data are not as the recipe says.
    """
    examples, validation = _training_examples(recipe), _validation_examples(recipe)
    if recipe.val_fraction is not None:
        examples, validation = training_and_validation(examples, recipe.val_fraction, recipe.seed)
    data = TrainingData(recipe, examples, validation)
    if _unseparated(recipe, data):
        raise ValueError(
            f"{recipe.val_data or recipe.data} has no part that is called {recipe.val_split!r}: it would be the "
            "images that are trained on. Give the data to validate on with `val_data`, or leave `val_split` out."
        )
    if not data.batches:
        raise ValueError(
            f"There are {len(data.examples)} images to train on, fewer than a batch of {recipe.batch_size}."
        )
    return data


def training_and_validation(examples: Any, val_fraction: float, seed: int) -> tuple[Any, Any]:
    """Divide the examples of a run into those that it trains on and those that it validates on.

    Raises:
        ValueError: If they are prepared records, which are not divided.
    """
    from keras_exfuse.data import Examples

    if not isinstance(examples, Examples):
        raise ValueError(
            f"{examples.source}: prepared records are not divided by `val_fraction`: prepare two splits instead, and "
            "name one with `val_split`."
        )
    return examples.split(1 - val_fraction, seed)


def _unseparated(recipe: Recipe, data: TrainingData) -> bool:
    """Whether another split was named for validation, of data that have no splits."""
    if data.validation is None or recipe.val_split in (None, recipe.split):
        return False
    one, other = data.examples, data.validation
    return (one.source, one.names) == (other.source, other.names)


def _training_examples(recipe: Recipe) -> Any:
    from keras_exfuse.data import list_file, mix, voc_split, voc_trainaug

    if recipe.sbd is None and recipe.coco is None:
        return _source(recipe, recipe.data, recipe.split, recipe.masks)
    for name in ("masks", "image_suffix", "mask_suffix"):
        if getattr(recipe, name):
            raise ValueError(
                f"`{name}` is for folders of images and masks: leave it out with `sbd` and `coco`."
            )
    if recipe.mask_format().options():
        raise ValueError(
            f"With `sbd` and `coco` masks are VOC's: leave out {', '.join(recipe.mask_format().options())}."
        )
    if recipe.sbd is not None:
        if recipe.split not in ("train", "trainaug"):
            raise ValueError(
                f"With `sbd`, `split` is train or trainaug (both mean VOC's train with SBD), got {recipe.split!r}."
            )
        examples = voc_trainaug(recipe.data, recipe.sbd, official=False)
    else:
        examples = voc_split(recipe.data, recipe.split)
    if recipe.coco is None:
        return examples
    path = Path(recipe.coco)
    return mix(list_file(path / "examples.json" if path.is_dir() else path), examples)


def _validation_examples(recipe: Recipe) -> Any:
    if recipe.val_split is None and recipe.val_data is None:
        return None
    masks = recipe.masks if recipe.val_data is None else recipe.val_masks
    return _source(recipe, recipe.val_data or recipe.data, recipe.val_split, masks)


def _source(recipe: Recipe, path: str, split: str | None, masks: str | None) -> Any:
    """Examples of a path, their masks read as the recipe says; or records."""
    from keras_exfuse.data.datasets.records import Records
    from keras_exfuse.data.sources import one_source

    names = {"masks": masks, "image_suffix": recipe.image_suffix, "mask_suffix": recipe.mask_suffix}
    found = one_source(path, split, **names)
    options = recipe.mask_format().options()
    if not isinstance(found, Records):
        return found.with_masks(**options).with_range(recipe.value_range)
    if recipe.value_range is not None:
        options["value_range"] = recipe.value_range
    if options:
        raise ValueError(
            f"{found.folder}: prepared records hold labels, not masks: leave out {', '.join(options)}, or give it to "
            "`keras-exfuse data prepare`."
        )
    if found.num_classes > recipe.num_classes:
        raise ValueError(
            f"{found.folder}: these records were written for {found.num_classes} classes, and the model has "
            f"{recipe.num_classes}. Set `num_classes`, or write them again with `keras-exfuse data prepare`."
        )
    return found


def _filled(batches: Any, size: int) -> Any:
    """Fill the last batch with images that do not count: devices share a batch in equal parts."""
    from keras_exfuse._constants import IGNORE_CLASS
    from keras_exfuse._optional import require
    from keras_exfuse.data.order import as_written

    tf = require("tensorflow", extra="data")

    def fill(images: Any, masks: Any) -> tuple[Any, Any]:
        missing = size - tf.shape(masks)[0]
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        masks = tf.pad(masks, [[0, missing], [0, 0], [0, 0]], constant_values=IGNORE_CLASS)
        return tf.ensure_shape(images, [size, None, None, 3]), tf.ensure_shape(masks, [size, None, None])

    return batches.map(as_written(fill))
