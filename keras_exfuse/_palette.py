"""The classes of PASCAL VOC and its color map, both ways."""

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
    """The VOC color map: the color of every label.

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
    colors = np.zeros((256, 3), np.int64)
    for j in range(3):
        colors |= ((labels >> (3 * j + channels)) & 1) << (7 - j)
    return colors.astype(np.uint8)


def labels_from_voc_colors(colors: np.ndarray) -> np.ndarray:
    """The label of every VOC color, by the closed form (numpy; the pipeline has the same in graph).

    Args:
        colors: Array (..., 3) of uint8, RGB, colors of the VOC color map.

    Returns:
        Array (...) of uint8.

    Raises:
        ValueError: If a color is not in the map; the text names it and where it stands.

    Example:
    >>> bool((labels_from_voc_colors(voc_palette()) == np.arange(256)).all())
    True
    """
    colors = np.asarray(colors)
    if colors.dtype != np.uint8 or colors.shape[-1:] != (3,):
        raise ValueError(
            f"Expected uint8 colors of shape (..., 3), got {colors.dtype} of shape {colors.shape}."
        )
    wide = colors.astype(np.int32)
    labels = np.zeros(colors.shape[:-1], np.int32)
    for j in range(3):
        for channel in range(3):
            if 3 * j + channel < 8:
                labels |= ((wide[..., channel] >> (7 - j)) & 1) << (3 * j + channel)
    unknown = (voc_palette()[labels] != colors).any(axis=-1)
    if unknown.any():
        place = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise ValueError(
            f"The color {tuple(int(v) for v in colors[place])} at {tuple(int(v) for v in place)} "
            "is not in the VOC color map."
        )
    return labels.astype(np.uint8)


def labels_from_colors(colors: np.ndarray, color_table: np.ndarray) -> np.ndarray:
    """The label of every color by a table: row number = label.

    Args:
        colors: Array (..., 3) of uint8, RGB.
        color_table: Array (N, 3) of uint8 with N at most 256, no color twice.

    Returns:
        Array (...) of uint8.

    Raises:
        ValueError: If a color is not in the table, or the table is not one.
    """
    keys, labels = sorted_color_keys(color_table)
    wide = np.asarray(colors).astype(np.int64)
    packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    position = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    unknown = keys[position] != packed
    if unknown.any():
        place = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise ValueError(
            f"The color {tuple(int(v) for v in wide[place])} at {tuple(int(v) for v in place)} "
            "is not in the color table."
        )
    return labels[position]


def nearest_labels(colors: np.ndarray, color_table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the nearest color of a table, by the squared distance of RGB; of equally near ones, the first.

    Args:
        colors: Array (..., 3) of uint8, RGB.
        color_table: Array (N, 3), 0..255.
        labels: The label of each row, (N,).

    Returns:
        Array (...) of uint8.

    Example:
    >>> table = np.array([[0, 0, 0], [255, 0, 0]])
    >>> nearest_labels(np.uint8([[9, 0, 0], [200, 3, 9]]), table, np.array([0, 7])).tolist()
    [0, 7]
    """
    wide = colors.astype(np.int64)
    packed, inverse = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_inverse=True)
    found = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    # |a - b|^2 less |a|^2, which is the same for all rows; whole numbers, so that ties are ties.
    distances = (color_table.astype(np.int64) ** 2).sum(axis=-1) - 2 * found @ color_table.astype(np.int64).T
    return labels[distances.argmin(axis=-1)][inverse].reshape(colors.shape[:-1]).astype(np.uint8)


def sorted_color_keys(color_table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check a color table; give its packed colors in rising order, and the label of each."""
    table = np.asarray(color_table)
    if table.ndim != 2 or table.shape[1] != 3 or not 1 <= len(table) <= 256:
        raise ValueError(f"A color table has shape (N, 3) with 1 <= N <= 256; got {table.shape}.")
    if table.min() < 0 or table.max() > 255:
        raise ValueError("The colors of a color table lie in 0..255.")
    wide = table.astype(np.int64)
    packed = (wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]
    order = np.argsort(packed, kind="stable")
    keys = packed[order]
    if (keys[1:] == keys[:-1]).any():
        twice = int(order[1:][keys[1:] == keys[:-1]][0])
        raise ValueError(f"The color {tuple(int(v) for v in table[twice])} stands twice in the color table.")
    return keys, order.astype(np.uint8)
