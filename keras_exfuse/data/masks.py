"""Masks as labels: what is stored in them, and what a user says about it."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._palette import (
    VOC_CLASSES,
    labels_from_colors,
    labels_from_voc_colors,
    nearest_labels,
    sorted_color_keys,
    voc_palette,
)
from keras_exfuse.data.reading import PathLike, open_image, read_bytes

# Bits, color type (gray or palette), compression, filter method, interlacing.
_PLAIN_PNG = (b"\x08\x00\x00\x00\x00", b"\x08\x03\x00\x00\x00")
# A small file can say that it is huge, or be it: what is larger is left to pillow, which has a limit.
_MOST_PIXELS = 1 << 26
# Formats that keep every value; of TIFF and WebP some do.
_LOSSLESS = ("PNG", "BMP", "DIB", "GIF", "PPM", "QOI")
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_BITS_PER_SAMPLE = 258  # The number of TIFF's entry.
_WHITE = 128  # From this value up, a pixel of a black and white mask is white.
_MOST_CLASSES_SHOWN = 32  # A mask with more colors is taken for a smoothed one.


def plain_png_values(content: bytes) -> np.ndarray | None:
    """The values in a PNG as VOC's masks are written: bytes that are indices or grays, rows without filters.

    Inflating is all that such a file needs, and it takes less time than pillow, which reads every other kind.

    Returns:
        Array (height, width) of uint8; `None` if the file is written in another way, or broken.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or content[24:29] not in _PLAIN_PNG:
        return None
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if not 0 < width * height <= _MOST_PIXELS:
        return None
    position, kind, packed = 8, b"", []
    while kind != b"IEND":
        length, kind = (
            int.from_bytes(content[position : position + 4], "big"),
            content[position + 4 : position + 8],
        )
        end = position + 8 + length
        checksum = content[end : end + 4]
        if len(checksum) < 4 or int.from_bytes(checksum, "big") != zlib.crc32(content[position + 4 : end]):
            return None
        if kind == b"IDAT":
            packed.append(content[position + 8 : end])
        position = end + 4
    wanted, inflating = height * (width + 1), zlib.decompressobj()
    try:
        rows = inflating.decompress(b"".join(packed), wanted + 1)  # One more, to notice a file with too many.
    except zlib.error:
        return None
    if len(rows) != wanted or not inflating.eof:
        return None
    values = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    # Each row begins with the number of its filter; 0 is none.
    return None if values[:, 0].any() else np.ascontiguousarray(values[:, 1:])


@dataclasses.dataclass(frozen=True)
class MaskFormat:
    """How the pixels of a mask become labels.

    Palette masks give their indices, whatever their palette; gray masks their values (also with 1, 2, 4 or 16 bits).
    An RGB mask gives the labels of its colors, or, if all of its pixels are gray and it is none in VOC's colors, its
    gray values. Alpha is dropped.

    Args:
        color_table: For RGB masks: N colors (r, g, b), 0..255, whose row number is the label; `"voc"` for the VOC
            color map; `None` to refuse colors.
        nearest_color: Whether a color that is not in the table means the nearest one in it (of VOC's, the 21 classes
            and the ignore label): for masks with smoothed edges, and JPEG masks. A smoothed edge between two classes
            may become a third.
        binary: Whether masks are black and white: 0 is class 0, and 255 (any value from 128 up) or 1 is class 1.
            Nothing is ignored.
        reduce_zero_label: Whether 0 means no class, and classes are counted from 1, as in ADE20K: 0 becomes 255, and 1
            becomes 0.
        remap: New label of labels, for example `{11: 255}`; labels that are not named stay. It is applied last.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
    >>> MaskFormat(remap={11: 255}).table()[[0, 10, 11]].tolist()
    [0, 10, 255]
    """

    color_table: "Sequence[Sequence[int]] | np.ndarray | Literal['voc'] | None" = "voc"
    nearest_color: bool = False
    binary: bool = False
    reduce_zero_label: bool = False
    remap: "Mapping[int, int] | tuple[tuple[int, int], ...] | None" = None

    def __post_init__(self) -> None:
        table = self.color_table
        if isinstance(table, str) and table != "voc":
            raise ValueError(f"color_table must be a list of colors, 'voc' or None, got {table!r}.")
        if table is not None and not isinstance(table, str):
            sorted_color_keys(np.asarray(table))  # Checks it.
            rows = tuple(tuple(int(value) for value in color) for color in np.asarray(table))
            object.__setattr__(self, "color_table", rows)
        if self.nearest_color and table is None:
            raise ValueError("nearest_color=True needs a color_table.")
        pairs = self.remap.items() if isinstance(self.remap, Mapping) else self.remap or ()
        for old, new in pairs:
            if not (0 <= old <= 255 and 0 <= new <= 255):
                raise ValueError(f"remap maps labels in 0..255 to labels in 0..255, got {old}: {new}.")
        # Plain values can be compared, which arrays and dictionaries in a frozen class cannot.
        object.__setattr__(self, "remap", tuple(sorted((int(old), int(new)) for old, new in pairs)))

    def changed(self, **options: Any) -> "MaskFormat":
        """The same with other values for options that are not `None`; a `remap` is applied after the present one."""
        given = {name: value for name, value in options.items() if value is not None}
        if "remap" in given:
            before, after = dict(self.remap or ()), dict(MaskFormat(remap=given["remap"]).remap or ())
            labels = {stored: before.get(stored, stored) for stored in range(IGNORE_CLASS + 1)}
            moved = {stored: after.get(label, label) for stored, label in labels.items()}
            given["remap"] = {stored: label for stored, label in moved.items() if stored != label}
        return dataclasses.replace(self, **given) if given else self

    def options(self) -> dict[str, Any]:
        """What differs from the defaults, as plain values."""
        fields = ((each.name, getattr(self, each.name), each.default) for each in dataclasses.fields(self))
        return {name: value for name, value, default in fields if value != default and value != ()}

    def table(self) -> np.ndarray | None:
        """New label of each stored one, uint8 (256,); `None` if they stay as they are."""
        if not self.remap and not self.reduce_zero_label:
            return None
        table = np.arange(256, dtype=np.uint8)
        renamed = table.copy()
        for old, new in dict(self.remap or ()).items():
            renamed[old] = new
        if self.reduce_zero_label:
            table[1:IGNORE_CLASS] -= 1
            table[0] = IGNORE_CLASS
        return renamed[table]

    def read(self, path: PathLike) -> np.ndarray:
        """Read a mask as labels.

        Args:
            path: The file.

        Returns:
            Array (height, width) of uint8.

        Raises:
            ValueError: If the file is missing, broken or no mask of this format; the text names it.
        """
        stored, table = self.stored(read_bytes(path), path), self.table()
        return stored if table is None else table[stored]

    def stored(self, content: bytes, path: PathLike) -> np.ndarray:
        """Decode a mask, before `reduce_zero_label` and `remap`.

        Args:
            content: The bytes of the file.
            path: Its name, for messages.

        Returns:
            Array (height, width) of uint8.

        Raises:
            ValueError: If it is broken or no mask of this format.
        """
        values = None if self.binary else plain_png_values(content)
        if values is not None:
            return values
        image = open_image(content, path)
        lossy, bits = not _is_lossless(image, content), _bits(image, content)
        if lossy and not (self.binary or self.nearest_color):
            raise ValueError(
                f"{path}: a mask must be PNG or another lossless format; this is {image.format}, which mixes labels "
                f"({len(_colors_in(np.asarray(image.convert('RGB')))):,} colors in this one). Export the masks as "
                "PNG. Otherwise pass binary=True for black and white, or nearest_color=True with the color_table."
            )
        if image.mode in ("RGBA", "LA"):
            image = _without_alpha(image, path)
        if self.binary:
            return _black_and_white(image, path)
        if lossy:
            image = image.convert("RGB")  # Colors are all that it has.
        if image.mode == "RGB":
            return self._labels_of(np.asarray(image), path)
        return _values(image, bits, path)

    def _labels_of(self, colors: np.ndarray, path: PathLike) -> np.ndarray:
        """Labels of an RGB mask."""
        if self.nearest_color:
            return nearest_labels(colors, *self._colors_and_labels())
        gray = colors[..., 0]
        if self.color_table in ("voc", None) and (colors == gray[..., None]).all():
            # Black and (128, 128, 128) alone are VOC's background and car; other grays are no class of VOC's.
            is_car = self.color_table == "voc" and np.isin(gray, (0, 128)).all()
            return labels_from_voc_colors(colors) if is_car else np.ascontiguousarray(gray)
        if self.color_table is None:
            raise ValueError(
                f"{path}: is an RGB mask; pass color_table= so that colors can be told as labels."
            )
        try:
            if self.color_table == "voc":
                return labels_from_voc_colors(colors)
            return labels_from_colors(colors, np.asarray(self.color_table))
        except ValueError as error:
            raise ValueError(f"{path}: {error} {_advice(colors)}") from error

    def _colors_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        if self.color_table == "voc":
            labels = np.array([*range(len(VOC_CLASSES)), IGNORE_CLASS])
            return voc_palette()[labels], labels
        table = np.asarray(self.color_table)
        return table, np.arange(len(table))


#: Palette and gray masks, and those in VOC's colors.
AS_STORED = MaskFormat()


def read_mask(path: PathLike, color_table: Any = "voc", **options: Any) -> np.ndarray:
    """Read a mask as labels.

    Args:
        path: The file.
        color_table: For RGB masks: array (N, 3) whose row number is the label, `"voc"` for the VOC color map, or
            `None` to refuse them.
        **options: More of `MaskFormat`: `nearest_color`, `binary`, `reduce_zero_label`, `remap`.

    Returns:
        Array (height, width) of uint8.

    Raises:
        ValueError: If the file is missing, broken or no mask; the text names it.
    """
    return MaskFormat(color_table, **options).read(path)


def _is_lossless(image: Any, content: bytes) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression") not in _LOSSY_TIFF
    return image.format in _LOSSLESS or (image.format == "WEBP" and b"VP8L" in content[:64])


def _bits(image: Any, content: bytes) -> int:
    """Bits of each value of a gray PNG or TIFF; 8 for other formats."""
    if image.format == "PNG":
        return content[24]
    return int(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]) if image.format == "TIFF" else 8


def _values(image: Any, bits: int, path: PathLike) -> np.ndarray:
    """The stored values of a palette or gray mask."""
    if image.mode in ("P", "L", "1"):
        labels = np.asarray(image).astype(np.uint8)
        if image.mode == "L" and bits < 8:  # Pillow stretches 1, 2 and 4 bits of gray to 0..255: undo it.
            labels = labels // (255 // (2**bits - 1))
        return labels
    if image.mode in ("I;16", "I;16B", "I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.max(initial=0) > IGNORE_CLASS:
            raise ValueError(f"{path}: a 16-bit mask with the label {int(wide.max())}; labels end at 255.")
        return wide.astype(np.uint8)
    raise ValueError(f"{path}: a mask of mode {image.mode}; expected palette, gray or RGB.")


def _without_alpha(image: Any, path: PathLike) -> Any:
    """A mask without its alpha, unless what is transparent would come to light."""
    pixels = np.asarray(image)
    colors, transparent = pixels[..., :-1], pixels[..., -1] == 0
    if transparent.any() and not transparent.all() and colors[transparent].any():
        raise ValueError(
            f"{path}: has colors under transparent pixels, so that it is not clear what they mean. Flatten the mask "
            "onto the background's color, and save it without alpha."
        )
    return image.convert("L" if image.mode == "LA" else "RGB")


def _black_and_white(image: Any, path: PathLike) -> np.ndarray:
    """0 and 1 of a mask that is black and white, or 0 and 1."""
    values = np.asarray(image).astype(np.int64)
    if image.mode == "P":
        colors = np.asarray(image.convert("RGB")).max(axis=-1)
        # White may be any index; a palette without it says nothing.
        values = colors.astype(np.int64) if colors.max(initial=0) >= _WHITE else values
    elif values.ndim == 3:
        values = values.max(axis=-1)
    largest = int(values.max(initial=0))
    if largest > 255:
        values, largest = values >> 8, largest >> 8
    if 1 < largest < _WHITE:
        raise ValueError(
            f"{path}: binary=True reads 0 and 1, or black and white ({_WHITE} and above); the largest value here is "
            f"{largest}. Pass remap={{{largest}: 1}} instead."
        )
    return (values >= (1 if largest == 1 else _WHITE)).astype(np.uint8)


def _colors_in(colors: np.ndarray) -> list[tuple[int, int, int]]:
    """The colors of an RGB image, the most frequent first."""
    wide = colors.reshape(-1, 3).astype(np.int64)
    packed, counts = np.unique(wide[:, 0] << 16 | wide[:, 1] << 8 | wide[:, 2], return_counts=True)
    ordered = packed[np.argsort(-counts, kind="stable")].tolist()
    return [(each >> 16, each >> 8 & 255, each & 255) for each in ordered]


def _advice(colors: np.ndarray) -> str:
    """What to do about colors without a label."""
    found = _colors_in(colors)
    shown = ", ".join(map(str, found[:8] if len(found) > _MOST_CLASSES_SHOWN else found))
    if len(found) > _MOST_CLASSES_SHOWN:
        return (
            f"The mask holds {len(found):,} colors: antialiasing or JPEG compression has mixed those of its classes. "
            "Export it as PNG without smoothing, or pass color_table=[...] with the colors of the classes and "
            f"nearest_color=True. The most frequent are {shown}."
        )
    colors_found = f"{len(found)} colors" if len(found) > 1 else "1 color"
    return (
        f"The mask holds {colors_found}. If each is a class, pass color_table=[{shown}], in the order of the labels "
        "and with those of the other masks; nearest_color=True takes smoothed edges to the nearest."
    )
