"""Images and masks as numpy arrays, exactly as pillow reads them; and what is wrong with them."""

import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse._palette import labels_from_colours, labels_from_voc_colours

PathLike = str | os.PathLike[str]
# Bits, colour type (gray or palette), compression, filter method, interlacing.
_PLAIN_PNG = (b"\x08\x00\x00\x00\x00", b"\x08\x03\x00\x00\x00")
# A small file can say that it is huge, or be it: what is larger is left to pillow, which has a limit.
_MOST_PIXELS = 1 << 26
_ORIENTATION = 0x0112  # The number of EXIF's entry.


def read_bytes(path: PathLike) -> bytes:
    """The content of a file.

    Raises:
        ValueError: If it is missing, empty or cannot be read; the text names it.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        if isinstance(error, FileNotFoundError) or Path(path).is_dir():
            raise ValueError(f"{path}: there is no such file.") from error
        raise ValueError(f"{path}: cannot be read ({error.strerror}).") from error
    if not content:
        raise ValueError(f"{path}: the file is empty (0 bytes).")
    return content


def _open(content: bytes, path: PathLike) -> Any:
    """Fully decode a file with pillow; anything wrong becomes a ValueError that names the file."""
    pillow = require("PIL.Image", extra="data")
    try:
        image = pillow.open(io.BytesIO(content))
        image.load()
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ValueError, ...
        raise ValueError(f"{path}: cannot be decoded, truncated or not an image ({error}).") from error
    # MPO: a JPEG with more images behind the first, as telephones write them under the name .jpg.
    if image.format not in ("JPEG", "MPO", "PNG"):
        raise ValueError(f"{path}: is {image.format}; expected JPEG or PNG. Convert it.")
    return image


def is_plain_jpeg(content: bytes) -> bool:
    """Whether OpenCV and pillow read a file alike: a complete JPEG of 8 bits, gray or colour, without EXIF.

    CMYK, EXIF orientation and files that are cut off are what the two treat differently.
    """
    if content[:3] != b"\xff\xd8\xff" or content[-2:] != b"\xff\xd9":
        return False
    position, plain = 2, False
    while position + 9 < len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xDA:  # The image itself begins: no more headers.
            return plain
        if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
            return False
        if marker in (0xC0, 0xC1, 0xC2):  # The header of the frame: bits, height, width, components.
            plain = content[position + 4] == 8 and content[position + 9] in (1, 3)
        position += 2 + length
    return False


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


def read_image(path: PathLike) -> np.ndarray:
    """Read a JPEG or PNG image as RGB.

    Gray and CMYK become RGB, alpha is dropped, 16 bits become 8 (the high byte), and the EXIF orientation is
    applied, so that the array shows the image as viewers and annotation tools show it.

    Args:
        path: The file.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If the file is missing, empty, broken or of another format; the text names it.
    """
    # By pillow alone, so that prediction does not need OpenCV.
    return image_to_rgb(_open(read_bytes(path), path))


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image file to the pixels that `read_image` gives.

    Args:
        content: The bytes of the file.
        name: What to call it in messages.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If they are no image; the text has the name.
    """
    return image_to_rgb(_open(content, name))


def decode_image(content: bytes, path: PathLike) -> np.ndarray:
    """Decode an image to the pixels that `read_image` gives, in less time, for pipelines.

    Args:
        content: The bytes of the file.
        path: Its name, for messages.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If it is broken or of another format.
    """
    if is_plain_jpeg(content):
        # The same library with the same settings behind both, so the same pixels; OpenCV's way is shorter.
        cv2 = require("cv2", extra="data")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is not None:
            return image
    return image_to_rgb(_open(content, path))  # This one says what is wrong.


def image_to_rgb(image: Any) -> np.ndarray:
    """An image that pillow opened as RGB: EXIF orientation applied, 16 bits cut to their high byte.

    Args:
        image: `PIL.Image.Image`.

    Returns:
        Array (height, width, 3) of uint8.
    """
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        gray = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        pixels = np.repeat(gray[..., None], 3, axis=-1)
    else:
        pixels = np.asarray(image.convert("RGB"))
    turn = _orientation(image)  # After decoding: a PNG may have its EXIF behind the pixels.
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = -1 if turn in (3, 4, 7, 8) else 1, -1 if turn in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _orientation(image: Any) -> int:
    """EXIF's orientation of an image that pillow opened, 1 to 8; 1 if it has none, or one that is broken.

    Pillow's own `exif_transpose` also looks into XMP, which OpenCV, TensorFlow and browsers do not.
    """
    entries = require("PIL.Image", extra="data").Exif()
    try:
        entries.load(image.info.get("exif") or b"")
        turn = int(entries.get(_ORIENTATION, 1))
    except Exception:  # Whatever the bytes lead it to; the pixels are there all the same.
        return 1
    return turn if 1 <= turn <= 8 else 1


def read_mask(path: PathLike, colour_table: np.ndarray | str | None = "voc") -> np.ndarray:
    """Read a PNG mask as labels.

    A palette mask gives its indices, whatever its palette; a gray mask its stored values (also with 1, 2, 4
    or 16 bits); an RGB mask the labels of its colours.

    Args:
        path: The file.
        colour_table: For RGB masks: array (N, 3) whose row number is the label, `"voc"` for the VOC colour
            map, or `None` to refuse them.

    Returns:
        Array (height, width) of uint8.

    Raises:
        ValueError: If the file is missing, broken or no mask; the text names it.
    """
    return decode_labels(read_bytes(path), path, colour_table)


def decode_labels(
    content: bytes, path: PathLike, colour_table: np.ndarray | str | None = "voc"
) -> np.ndarray:
    """Decode a mask as `read_mask` does.

    Args:
        content: The bytes of the file.
        path: Its name, for messages.
        colour_table: As in `read_mask`.

    Returns:
        Array (height, width) of uint8.

    Raises:
        ValueError: If it is broken or no mask.
    """
    values = plain_png_values(content)
    if values is not None:
        return values
    image = _open(content, path)
    if image.format != "PNG":
        raise ValueError(f"{path}: a mask must be PNG, this is {image.format}, which changes labels.")
    if image.mode in ("P", "L", "1"):
        labels = np.asarray(image).astype(np.uint8)
        if image.mode == "L":  # Pillow stretches 1, 2 and 4 bits of gray to 0..255: undo it.
            depth = content[24]
            if depth < 8:
                labels = labels // (255 // (2**depth - 1))
        return labels
    if image.mode in ("I;16", "I;16B", "I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.max(initial=0) > IGNORE_CLASS:
            raise ValueError(f"{path}: a 16-bit mask with the label {int(wide.max())}; labels end at 255.")
        return wide.astype(np.uint8)
    if image.mode == "RGB" and colour_table is not None:
        colours = np.asarray(image)
        try:
            if isinstance(colour_table, str):
                return labels_from_voc_colours(colours)
            return labels_from_colours(colours, colour_table)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if image.mode == "RGB":
        raise ValueError(f"{path}: is an RGB mask; pass colour_table= so that colours can be told as labels.")
    raise ValueError(f"{path}: a mask of mode {image.mode}; expected palette, gray or RGB PNG.")


def explain_pair(
    image_path: PathLike,
    mask_path: PathLike,
    num_classes: int,
    colour_table: np.ndarray | str | None = "voc",
    label_table: np.ndarray | None = None,
) -> str | None:
    """Say what is wrong with an image and its mask, as `checked_pair` would.

    Returns:
        One line that names the file, or `None` if nothing is wrong.
    """
    try:
        checked_pair(image_path, mask_path, num_classes, colour_table, label_table)
    except ValueError as error:
        return str(error)
    return None


def checked_pair(
    image_path: PathLike,
    mask_path: PathLike,
    num_classes: int,
    colour_table: np.ndarray | str | None = "voc",
    label_table: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask, and check that they fit.

    Args:
        image_path: The image.
        mask_path: Its mask; empty for none, which gives a mask of 255.
        num_classes: Labels must lie in 0..num_classes-1, or be 255.
        colour_table: As in `read_mask`.
        label_table: Array (256,) that maps stored labels to the classes, or `None`.

    Returns:
        Image (height, width, 3) and mask (height, width), both uint8.

    Raises:
        ValueError: If something is wrong; one line that names the file.
    """
    try:
        image = decode_image(read_bytes(image_path), image_path)
        mask = (
            read_mask(mask_path, colour_table)
            if mask_path
            else np.full(image.shape[:2], IGNORE_CLASS, np.uint8)
        )
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"{mask_path}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image {image_path} is "
            f"{image.shape[1]}x{image.shape[0]} (width x height, EXIF orientation applied); "
            "expected the same size."
        )
    stored = mask
    if label_table is not None:
        mask = label_table[mask]
    # The void label wraps to 0 when 1 is added, so one maximum checks all labels.
    if int((mask + np.uint8(1)).max(initial=0)) > num_classes:
        wrong = (mask >= num_classes) & (mask != IGNORE_CLASS)
        row, column = (int(v) for v in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        label = f"label {int(mask[row, column])}"
        if label_table is not None:
            label += f" (stored as {int(stored[row, column])})"
        raise ValueError(
            f"{mask_path}: {label} at row {row}, column {column} (the first of {int(wrong.sum())} pixels); "
            f"expected 0..{num_classes - 1} or 255 (ignored). Is num_classes={num_classes} right for these masks?"
        )
    return image, mask
