"""The classes of PASCAL VOC and its colour map, both ways."""

import numpy as np

#: The 21 classes of PASCAL VOC segmentation; the position is the label.
VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_palette() -> np.ndarray:
    """The VOC colour map: the colour of every label.

    Bits 3j, 3j+1 and 3j+2 of a label are bits 7-j of red, green and blue.

    Returns:
        Array (256, 3) of uint8, RGB.

    Source: `VOClabelcolormap.m` of the PASCAL VOC development kit.

    Example:
    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    labels = np.arange(256)[:, None]
    channels = np.arange(3)[None, :]
    colours = np.zeros((256, 3), np.int64)
    for j in range(3):
        colours |= ((labels >> (3 * j + channels)) & 1) << (7 - j)
    return colours.astype(np.uint8)


def labels_from_voc_colours(colours: np.ndarray) -> np.ndarray:
    """The label of every VOC colour, by the closed form (numpy; the pipeline has the same in graph).

    Args:
        colours: Array (..., 3) of uint8, RGB, colours of the VOC colour map.

    Returns:
        Array (...) of uint8.

    Raises:
        ValueError: If a colour is not in the map; the text names it and where it stands.

    Example:
    >>> bool((labels_from_voc_colours(voc_palette()) == np.arange(256)).all())
    True
    """
    colours = np.asarray(colours)
    if colours.dtype != np.uint8 or colours.shape[-1:] != (3,):
        raise ValueError(
            f"Expected uint8 colours of shape (..., 3), got {colours.dtype} of shape {colours.shape}."
        )
    wide = colours.astype(np.int32)
    labels = np.zeros(colours.shape[:-1], np.int32)
    for j in range(3):
        for channel in range(3):
            if 3 * j + channel < 8:
                labels |= ((wide[..., channel] >> (7 - j)) & 1) << (3 * j + channel)
    unknown = (voc_palette()[labels] != colours).any(axis=-1)
    if unknown.any():
        place = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise ValueError(
            f"The colour {tuple(int(v) for v in colours[place])} at {tuple(int(v) for v in place)} "
            "is not in the VOC colour map."
        )
    return labels.astype(np.uint8)


def labels_from_colours(colours: np.ndarray, colour_table: np.ndarray) -> np.ndarray:
    """The label of every colour by a table: row number = label.

    Args:
        colours: Array (..., 3) of uint8, RGB.
        colour_table: Array (N, 3) of uint8 with N at most 256, no colour twice.

    Returns:
        Array (...) of uint8.

    Raises:
        ValueError: If a colour is not in the table, or the table is not one.
    """
    keys, labels = sorted_colour_keys(colour_table)
    wide = np.asarray(colours).astype(np.int64)
    packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    position = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    unknown = keys[position] != packed
    if unknown.any():
        place = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise ValueError(
            f"The colour {tuple(int(v) for v in wide[place])} at {tuple(int(v) for v in place)} "
            "is not in the colour table."
        )
    return labels[position]


def nearest_labels(colours: np.ndarray, colour_table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the nearest colour of a table, by the squared distance of RGB; of equally near ones, the first.

    Args:
        colours: Array (..., 3) of uint8, RGB.
        colour_table: Array (N, 3), 0..255.
        labels: The label of each row, (N,).

    Returns:
        Array (...) of uint8.

    Example:
    >>> table = np.array([[0, 0, 0], [255, 0, 0]])
    >>> nearest_labels(np.uint8([[9, 0, 0], [200, 3, 9]]), table, np.array([0, 7])).tolist()
    [0, 7]
    """
    wide = colours.astype(np.int64)
    packed, inverse = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_inverse=True)
    found = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    # |a - b|^2 less |a|^2, which is the same for all rows; whole numbers, so that ties are ties.
    distances = (colour_table.astype(np.int64) ** 2).sum(axis=-1) - 2 * found @ colour_table.astype(
        np.int64
    ).T
    return labels[distances.argmin(axis=-1)][inverse].reshape(colours.shape[:-1]).astype(np.uint8)


def sorted_colour_keys(colour_table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check a colour table; give its packed colours in rising order, and the label of each."""
    table = np.asarray(colour_table)
    if table.ndim != 2 or table.shape[1] != 3 or not 1 <= len(table) <= 256:
        raise ValueError(f"A colour table has shape (N, 3) with 1 <= N <= 256; got {table.shape}.")
    if table.min() < 0 or table.max() > 255:
        raise ValueError("The colours of a colour table lie in 0..255.")
    wide = table.astype(np.int64)
    packed = (wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]
    order = np.argsort(packed, kind="stable")
    keys = packed[order]
    if (keys[1:] == keys[:-1]).any():
        twice = int(order[1:][keys[1:] == keys[:-1]][0])
        raise ValueError(
            f"The colour {tuple(int(v) for v in table[twice])} stands twice in the colour table."
        )
    return keys, order.astype(np.uint8)
