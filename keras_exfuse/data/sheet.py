"""A contact sheet: some images of a data set beside their masks, to be looked at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.examples import Examples
from keras_exfuse.data.pairs import checked_pair
from keras_exfuse.data.targets import resized_labels

if TYPE_CHECKING:
    from PIL.Image import Image


def contact_sheet(
    examples: Examples,
    *,
    class_names: Sequence[str] | None = None,
    count: int = 12,
    columns: int = 3,
    tile_width: int = 300,
    seed: int = 0,
    num_classes: int = 255,
) -> "Image":
    """Lay out images with their masks over them, named, with a legend each.

    Args:
        examples: Where to take them from.
        class_names: Names for the legends; those of the examples if `None`.
        count: Number of examples, drawn at random without repetition.
        columns: Examples in a row.
        tile_width: Width of each image in pixels; the overlay beside it is as wide.
        seed: Seed of the draw.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.

    Returns:
        A PIL image of mode "RGB".

    Raises:
        ValueError: If an example that was drawn is bad; the text names the file.
    """
    from keras_exfuse.visualize import grid, overlay, side_by_side

    pil = require("PIL.Image", extra="data")
    random = np.random.default_rng(seed)
    chosen = sorted(random.permutation(len(examples))[:count].tolist())
    names = class_names or examples.class_names
    tiles = []
    for index in chosen:
        image, mask = checked_pair(
            examples.images[index],
            examples.masks[index],
            num_classes,
            examples.mask_format,
            examples.value_range,
        )
        height = max(1, round(image.shape[0] * tile_width / image.shape[1]))
        tile = pil.fromarray(image).resize((tile_width, height))
        labels = resized_labels(mask, (height, tile_width))
        tiles.append(
            side_by_side([tile, overlay(tile, labels, names)], gap=2),
        )
    return grid(tiles, [examples.names[index] for index in chosen], columns)
