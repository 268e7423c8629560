"""Images of segmentations: palette PNGs, overlays with a legend of class names, comparisons side by side.

Everything returns a PIL image: a notebook shows it, `.save("name.png")` writes it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse._palette import voc_palette

if TYPE_CHECKING:
    from PIL.Image import Image

_VOID_COLOR = (224, 224, 192)  # What the VOC palette gives to 255.
_WRONG = (214, 39, 40)
_MARGIN = 10
_TEXT = (32, 32, 32)
_PAPER = (255, 255, 255)


def palette_image(labels: np.ndarray, palette: np.ndarray | None = None) -> "Image":
    """Make a palette PNG of labels, as the VOC data set and its test server have them.

    The stored values are the labels themselves; a viewer shows the colors.

    Args:
        labels: Integers 0..255, shape (H, W); 255 is void.
        palette: (N, 3) uint8 colors, N <= 256; the VOC palette by default.

    Returns:
        A PIL image of mode "P".

    Raises:
        ValueError: If the labels are not (H, W) integers within 0..255.

    Example:
    >>> import numpy as np
    >>> palette_image(np.array([[0, 15], [15, 255]])).getpixel((1, 0))
    15
    """
    pil = require("PIL.Image", extra="data")
    image = pil.fromarray(_checked_labels(labels))
    image.putpalette(_palette(palette).tobytes(), "RGB")
    return image


def label_image(labels: np.ndarray, palette: np.ndarray | None = None) -> "Image":
    """Make an image that stores labels, of any number of classes.

    Args:
        labels: Integers, shape (H, W); uint16 means that there may be more than 255 classes.
        palette: As in `palette_image`; not used with uint16.

    Returns:
        A PIL image: what `palette_image` makes, or for uint16 one of 16 bits gray, mode "I;16".

    Example:
    >>> import numpy as np
    >>> label_image(np.array([[300]], "uint16")).getpixel((0, 0))
    300
    """
    if np.asarray(labels).dtype != "uint16":
        return palette_image(labels, palette)
    return require("PIL.Image", extra="data").fromarray(np.ascontiguousarray(labels))


def color_labels(labels: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Paint labels with their colors.

    Args:
        labels: Integers 0..255, shape (H, W).
        palette: (N, 3) uint8 colors; the VOC palette by default.

    Returns:
        RGB, uint8, shape (H, W, 3).
    """
    return _palette(palette)[_checked_labels(labels)]


def overlay(
    image,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    *,
    palette: np.ndarray | None = None,
    opacity: float = 0.55,
    background: int | None = 0,
    legend: bool = True,
    title: str | None = None,
) -> "Image":
    """Lay the classes over an image, with an outline and a legend that names those that occur.

    The background class stays as it is, so that objects stand out; void (255) is hatched.

    Args:
        image: RGB image, 0..255, shape (H, W, 3), or a PIL image.
        labels: Integers, shape (H, W), the image's own size.
        class_names: A name for each class; "class N" where it has none.
        palette: (N, 3) uint8 colors; the VOC palette by default.
        opacity: Strength of the colors, 0 (image only) to 1 (colors only).
        background: The class that is not painted, or None to paint all.
        legend: Whether to add the strip with names and shares of the area below the image.
        title: A line of text above the image.

    Returns:
        A PIL image of mode "RGB".

    Raises:
        ValueError: If image and labels differ in size, or opacity is outside 0..1.

    Example:
    >>> import numpy as np
    >>> image = np.zeros((64, 96, 3), "uint8")
    >>> overlay(image, np.zeros((64, 96), "uint8"), legend=False).size
    (96, 64)
    """
    pil = require("PIL.Image", extra="data")
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must lie in 0..1, got {opacity}.")
    pixels = _rgb(image)
    labels = _checked_labels(labels)
    if labels.shape != pixels.shape[:2]:
        raise ValueError(
            f"Image and labels must have the same size, got an image of {_size(pixels)} and labels of "
            f"{_size(labels)} (width x height). Pass labels at the image's own size, as `Predictor` returns."
        )
    colors = _palette(palette)
    painted = np.ones(labels.shape, bool) if background is None else labels != background
    blended = pixels * (1 - opacity) + colors[labels] * opacity
    result = np.where(painted[..., None], blended, pixels)
    result = _hatch_void(result, labels)
    result = np.where(_outline(labels)[..., None], 255.0, result)
    canvas = pil.fromarray(np.round(result).astype("uint8"))
    if title:
        canvas = _with_title(canvas, title)
    return _with_legend(canvas, labels, class_names, colors) if legend else canvas


def comparison(
    image,
    truth: np.ndarray,
    prediction: np.ndarray,
    class_names: Sequence[str] | None = None,
    *,
    palette: np.ndarray | None = None,
    difference: bool = False,
) -> "Image":
    """Show image, truth and prediction side by side, with one legend.

    Args:
        image: RGB image, 0..255, shape (H, W, 3), or a PIL image.
        truth: Integers, shape (H, W).
        prediction: Integers, shape (H, W).
        class_names: A name for each class.
        palette: (N, 3) uint8 colors; the VOC palette by default.
        difference: Whether to add what `difference_image` shows.

    Returns:
        A PIL image of mode "RGB", about three or four times as wide as the image.
    """
    pil = require("PIL.Image", extra="data")
    pixels = _rgb(image)
    labels = _checked_labels(truth), _checked_labels(prediction)
    panels = [_with_title(pil.fromarray(pixels), "image")]
    for name, each in zip(("truth", "prediction"), labels, strict=True):
        panels.append(overlay(pixels, each, palette=palette, legend=False, title=name))
    if difference:
        panels.append(_with_title(difference_image(pixels, *labels), "difference"))
    canvas = side_by_side(panels)
    both = np.concatenate([each.ravel() for each in labels])[None]
    # Names alone: a share of truth and prediction together would say nothing.
    return _with_legend(canvas, both, class_names, _palette(palette), shares=False, letters=pixels.shape[1])


def difference_image(image, truth: np.ndarray, prediction: np.ndarray) -> "Image":
    """Show where a prediction is wrong: in red over the image in pale gray; void (255) of the truth is hatched.

    Args:
        image: RGB image, 0..255, shape (H, W, 3), or a PIL image.
        truth: Integers, shape (H, W).
        prediction: Integers, shape (H, W).

    Returns:
        A PIL image of mode "RGB", of the image's size.

    Example:
    >>> import numpy as np
    >>> truth = np.array([[0, 1, 255]])
    >>> difference = difference_image(np.zeros((1, 3, 3)), truth, np.array([[0, 0, 0]]))
    >>> difference.getpixel((0, 0)), difference.getpixel((1, 0))
    ((153, 153, 153), (214, 39, 40))
    """
    pil = require("PIL.Image", extra="data")
    pixels, truth, prediction = _rgb(image), _checked_labels(truth), _checked_labels(prediction)
    pale = 0.4 * pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1) + 0.6 * 255
    wrong = (truth != prediction) & (truth != IGNORE_CLASS)
    shown = np.where(wrong[..., None], np.array(_WRONG, "float64"), _hatch_void(pale, truth))
    return pil.fromarray(np.round(shown).astype("uint8"))


def uncertainty_image(values: np.ndarray) -> "Image":
    """Draw a map of 0 to 1, such as entropy, in gray: white is 1.

    Args:
        values: Floats within 0..1, shape (H, W).

    Returns:
        A PIL image of mode "L".

    Example:
    >>> import numpy as np
    >>> uncertainty_image(np.array([[0.0, 0.5, 1.0]])).getpixel((1, 0))
    128
    """
    pil = require("PIL.Image", extra="data")
    return pil.fromarray(np.round(np.clip(values, 0, 1) * 255).astype("uint8"))


def side_by_side(images: Sequence["Image"], gap: int = _MARGIN) -> "Image":
    """Join images in a row on white, aligned at the top.

    Args:
        images: PIL images of any sizes.
        gap: Space between them in pixels.

    Returns:
        A PIL image of mode "RGB".
    """
    pil = require("PIL.Image", extra="data")
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    canvas = pil.new("RGB", (width, max(image.height for image in images)), _PAPER)
    left = 0
    for image in images:
        canvas.paste(image, (left, 0))
        left += image.width + gap
    return canvas


def grid(tiles: Sequence["Image"], titles: Sequence[str], columns: int) -> "Image":
    """Lay out images in rows, each row as high as its highest image, each image under its title.

    Args:
        tiles: PIL images of any sizes, at least one.
        titles: A line of text for each.
        columns: Images in a row.

    Returns:
        A PIL image of mode "RGB".
    """
    pil, draw = require("PIL.Image", extra="data"), require("PIL.ImageDraw", extra="data")
    font = require("PIL.ImageFont", extra="data").load_default(size=14)
    gap, line = 12, 20
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    width = max(tile.width for tile in tiles) + gap
    heights = [max(tiles[index].height for index in row) + line + gap for row in rows]
    sheet = pil.new("RGB", (width * min(columns, len(tiles)) + gap, sum(heights) + gap), _PAPER)
    pen = draw.Draw(sheet)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = gap + column * width
            pen.text((left, top), titles[index], fill=_TEXT, font=font)
            sheet.paste(tiles[index], (left, top + line))
        top += height
    return sheet


# === Drawing ===


def _outline(labels: np.ndarray) -> np.ndarray:
    """True on the pixels that have another class to the right or below: a line one pixel wide."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1, :] |= labels[:-1, :] != labels[1:, :]
    return edge & (labels != IGNORE_CLASS)


def _hatch_void(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Diagonal stripes: void is no class, and a plain color would look like one."""
    row, column = np.indices(labels.shape)
    stripe = (row + column) % 6 < 2
    return np.where(((labels == IGNORE_CLASS) & stripe)[..., None], np.array(_VOID_COLOR, "float64"), image)


def _with_title(image: "Image", title: str) -> "Image":
    pil, draw = require("PIL.Image", extra="data"), require("PIL.ImageDraw", extra="data")
    font = _font(image.width)
    height = int(font.size * 1.6)
    canvas = pil.new("RGB", (image.width, image.height + height), _PAPER)
    draw.Draw(canvas).text((2, height // 2), title, fill=_TEXT, font=font, anchor="lm")
    canvas.paste(image, (0, height))
    return canvas


def _with_legend(
    image: "Image",
    labels: np.ndarray,
    class_names,
    colors: np.ndarray,
    shares: bool = True,
    letters: int | None = None,
) -> "Image":
    """Adds a strip below: a swatch, a name and a share of the area for each class that occurs.

    `letters` is the width for which the size of the letters is chosen, the image's by default.
    """
    pil, draw = require("PIL.Image", extra="data"), require("PIL.ImageDraw", extra="data")
    font = _font(letters or image.width)
    entries = _legend_entries(labels, class_names, shares)
    swatch, line = font.size, int(font.size * 1.7)
    places, left, top = [], _MARGIN, 0
    for label, text in entries:
        width = int(swatch * 1.5 + font.getlength(text) + font.size * 1.2)
        if left > _MARGIN and left + width > image.width:
            left, top = _MARGIN, top + line
        places.append((left, top, label, text))
        left += width
    widest = max(left_ + int(swatch * 1.5 + font.getlength(text)) for left_, _, _, text in places)
    size = max(image.width, widest + _MARGIN), image.height + top + line + _MARGIN
    canvas = pil.new("RGB", size, _PAPER)
    canvas.paste(image, (0, 0))
    pen = draw.Draw(canvas)
    for left, top, label, text in places:
        middle = image.height + top + _MARGIN // 2 + line // 2
        box = (left, middle - swatch // 2, left + swatch, middle + swatch // 2)
        fill = _VOID_COLOR if label == IGNORE_CLASS else tuple(int(c) for c in colors[label])
        pen.rectangle(box, fill=fill, outline=_TEXT)
        pen.text((left + int(swatch * 1.5), middle), text, fill=_TEXT, font=font, anchor="lm")
    return canvas


def _legend_entries(labels: np.ndarray, class_names, shares: bool = True) -> list[tuple[int, str]]:
    found, counts = np.unique(labels, return_counts=True)
    entries = []
    for label, count in zip(found.tolist(), counts.tolist(), strict=True):
        name = class_name(label, class_names)
        entries.append((label, f"{name} {100 * count / labels.size:.0f} %" if shares else name))
    return entries


def class_name(label: int, class_names: Sequence[str] | None) -> str:
    """Name a label: its class name, "void" for 255, "class N" where there is no name."""
    if class_names is not None and label < len(class_names):
        return class_names[label]
    return "void" if label == IGNORE_CLASS else f"class {label}"


def _font(width: int):
    """Letters that can be read on the image they stand on."""
    return require("PIL.ImageFont", extra="data").load_default(size=min(max(width // 28, 12), 32))


# === Checks ===


def _rgb(image) -> np.ndarray:
    if hasattr(image, "convert"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"An image must be RGB of shape (H, W, 3), got shape {pixels.shape}.")
    return np.clip(pixels, 0, 255).astype("uint8")


def _checked_labels(labels) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Labels must be integers of shape (H, W), got {labels.dtype} of shape {labels.shape}. "
            "Take the argmax of logits over the last axis first."
        )
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"Labels must lie in 0..255, got {labels.min()}..{labels.max()}.")
    return labels.astype("uint8")


def _palette(palette: np.ndarray | None) -> np.ndarray:
    """The first 256 colors, those that were not given from the VOC palette."""
    colors = np.array(voc_palette(), "uint8")
    if palette is not None:
        given = np.asarray(palette, "uint8")
        if given.ndim != 2 or given.shape[1] != 3 or len(given) > 256:
            raise ValueError(f"A palette must have shape (N, 3) with N <= 256, got {given.shape}.")
        colors[: len(given)] = given
    return colors


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
