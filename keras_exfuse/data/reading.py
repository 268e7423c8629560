"""Files of images as numpy arrays, exactly as pillow reads them; and what is wrong with them."""

import io
import os
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._optional import require

PathLike = str | os.PathLike[str]
ValueRange = tuple[float, float]
# What pillow may open. Others of its formats start programs (EPS) or are no images of pixels.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "JPEG2000", "PPM", "QOI", "AVIF"),
    *("JXL", "HEIF"),  # Where a plug-in of pillow's was registered.
)
#: How names of images end, in small letters.
IMAGE_SUFFIXES = (
    *(
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".jp2",
        ".j2k",
    ),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".avif", ".jxl", ".heic", ".heif"),
)
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258  # Numbers of entries of EXIF and TIFF.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_PIXELS = 1 << 28  # Of a TIFF; pillow has a limit of its own.
_FILTERING = threading.Lock()
_WIDE = ("I;16", "I;16B", "I;16L", "I", "F")  # Pillow's modes of more than eight bits.


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


def open_image(content: bytes, path: PathLike) -> Any:
    """Fully decode a file with pillow; anything wrong becomes a ValueError that names the file."""
    pillow = require("PIL.Image", extra="data")
    try:
        pillow.init()  # Registers the plug-ins.
        image = pillow.open(io.BytesIO(content), formats=[each for each in _FORMATS if each in pillow.OPEN])
        image.load()
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ValueError, ...
        raise ValueError(
            f"{path}: cannot be decoded, truncated or not an image ({_reason(error)})."
        ) from error
    if image.format == "PNG" and not _are_checksums_right(content):
        raise ValueError(f"{path}: is damaged: the checksum of its pixels is wrong.")
    return image


def _are_checksums_right(content: bytes) -> bool:
    """Whether a PNG's pixels are as they were written: of all its chunks, pillow does not look at theirs."""
    position = 8
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        chunk, checksum = content[position + 4 : end], int.from_bytes(content[end : end + 4], "big")
        if chunk[:4] == b"IDAT" and checksum != zlib.crc32(chunk):
            return False
        position = end + 4
    return True


def _reason(error: Exception) -> str:
    """What pillow says, without the object that it was given."""
    if "cannot identify image file" in str(error):
        return "expected JPEG, PNG, TIFF, WebP, BMP, GIF or another image of pixels"
    return str(error)


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by the ends of their names, not those of folders in it, sorted.

    Raises:
        ValueError: If there is none.
    """
    files = sorted(
        each
        for each in folder.iterdir()
        if each.suffix.lower() in IMAGE_SUFFIXES and not each.name.startswith(".")
    )
    if not files:
        raise ValueError(f"There is no image in the folder {folder}. {other_files(folder)}".strip())
    return files


def other_files(folder: PathLike) -> str:
    """Say which files a folder holds besides images; nothing if there are none.

    Returns:
        A sentence, or the empty string.
    """
    others = sorted(
        each.name
        for each in Path(folder).iterdir()
        if each.is_file() and each.suffix.lower() not in IMAGE_SUFFIXES and not each.name.startswith(".")
    )
    if not others:
        return ""
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f"Passed over, by the ends of their names: {shown}."


def file_problem(path: PathLike) -> str | None:
    """Say why a file is no image that can be read, from its first bytes alone.

    Returns:
        A line that names the file, or `None` if it seems to be one.
    """
    pillow = require("PIL.Image", extra="data")
    try:
        with open(path, "rb") as stream:
            if stream.read(4) in _TIFF:
                return None  # There are kinds of it that pillow does not know.
            stream.seek(0)
            pillow.init()
            pillow.open(stream, formats=[each for each in _FORMATS if each in pillow.OPEN])
    except Exception:  # Pillow raises whatever the bytes lead it to; `open_image` says it in our words.
        try:
            open_image(read_bytes(path), path)
        except ValueError as error:
            return str(error)
    return None


def is_plain_jpeg(content: bytes) -> bool:
    """Whether OpenCV and pillow read a file alike: a complete JPEG of 8 bits, gray or color, without EXIF.

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


def read_image(path: PathLike, value_range: ValueRange | None = None) -> np.ndarray:
    """Read an image as RGB: JPEG, PNG, TIFF, WebP, BMP, GIF (the first image) or whatever else pillow reads.

    Gray and CMYK become RGB, alpha is dropped, and the EXIF orientation is applied, so that the array shows the image
    as viewers and annotation tools show it. Of a TIFF of two bands the first counts, of four the first three.

    More than eight bits become eight: those from the highest that any pixel has, so that 12 bits in a file of 16 keep
    their upper eight. With `value_range` its ends become 0 and 255, whatever the image holds: give it where images are
    to be compared, and for floating-point TIFF.

    Args:
        path: The file.
        value_range: What stands for black and white in images of more than eight bits, for example (0, 4095).

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If the file is missing, empty, broken or no such image; the text names it.
    """
    # By pillow as far as it goes, so that prediction does not need OpenCV.
    return decode_rgb(read_bytes(path), path, value_range)


def decode_rgb(content: bytes, name: PathLike, value_range: ValueRange | None = None) -> np.ndarray:
    """Decode the bytes of an image file to the pixels that `read_image` gives.

    Args:
        content: The bytes of the file.
        name: What to call it in messages.
        value_range: As in `read_image`.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If they are no image; the text has the name.
    """
    if content[:4] in _TIFF:
        whole, turn = _known_to_pillow(content)
        if not whole:
            return _upright(to_eight_bits(_bands_of_tiff(content, name), value_range, name), turn)
    image = open_image(content, name)
    if image.format == "PNG" and content[24] == 16 and image.mode not in _WIDE:
        # Pillow has kept the high bytes alone.
        wide = _values_of_png(content, name)
        return _upright(to_eight_bits(wide, value_range, name), _orientation(image))
    return image_to_rgb(image, value_range, name)


def decode_image(content: bytes, path: PathLike, value_range: ValueRange | None = None) -> np.ndarray:
    """Decode an image to the pixels that `read_image` gives, in less time, for pipelines.

    Args:
        content: The bytes of the file.
        path: Its name, for messages.
        value_range: As in `read_image`.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If it is broken or no image.
    """
    if is_plain_jpeg(content):
        # The same library with the same settings behind both, so the same pixels; OpenCV's way is shorter.
        cv2 = require("cv2", extra="data")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is not None:
            return image
    return decode_rgb(content, path, value_range)  # This one says what is wrong.


def image_to_rgb(
    image: Any, value_range: ValueRange | None = None, path: PathLike = "the image"
) -> np.ndarray:
    """An image that pillow opened as RGB, as `read_image` gives it.

    Args:
        image: `PIL.Image.Image`.
        value_range: As in `read_image`.
        path: Its name, for messages.

    Returns:
        Array (height, width, 3) of uint8.

    Raises:
        ValueError: If its values cannot be told as 0..255.
    """
    if image.mode in _WIDE:
        pixels = to_eight_bits(np.asarray(image), value_range, path)
    else:
        pixels = np.asarray(image.convert("RGB"))
    return _upright(pixels, _orientation(image))  # After decoding: a PNG may have its EXIF behind the pixels.


def to_eight_bits(values: np.ndarray, value_range: ValueRange | None, path: PathLike) -> np.ndarray:
    """Values of more than eight bits as bytes, by the rule of `read_image`.

    Args:
        values: Integers or floats (...).
        value_range: What becomes 0 and 255, or None for the rule about integers.
        path: Their name, for messages.

    Returns:
        Array of uint8.

    Raises:
        ValueError: If there is no range for floats or for values below 0, or a value is NaN or infinite.

    Example:
    >>> to_eight_bits(np.uint16([0, 16, 4095]), None, "x").tolist()  # 12 bits
    [0, 1, 255]
    >>> to_eight_bits(np.uint16([100, 600, 1100]), (100, 1100), "x").tolist()
    [0, 128, 255]
    """
    if value_range is not None:
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range must be (black, white) with black below white, got {value_range}.")
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: holds NaN or infinite values; replace them.")
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.floor(np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)
    if values.dtype.kind == "f" or values.min(initial=0) < 0:
        kind = "floating-point numbers" if values.dtype.kind == "f" else "values below 0"
        raise ValueError(
            f"{path}: holds {kind}, {values.min():.6g} to {values.max():.6g}; say what is black and white, for example "
            "value_range=(0, 1)."
        )
    shift = max(0, int(values.max(initial=0)).bit_length() - 8)
    return (values.astype(np.int64) >> shift).astype(np.uint8)


def _known_to_pillow(content: bytes) -> tuple[bool, int]:
    """Whether pillow reads all bits of a TIFF, and its orientation; 1 where pillow does not know the kind."""
    pillow = require("PIL.Image", extra="data")
    pillow.init()
    try:
        with pillow.open(io.BytesIO(content), formats=["TIFF"]) as image:
            entries = image.tag_v2
            whole = image.mode in _WIDE or max(entries.get(_BITS_PER_SAMPLE, (1,))) <= 8
            return whole, int(entries.get(_ORIENTATION, 1))
    except Exception:  # It raises what the bytes lead it to; rasterio says what is wrong.
        return False, 1


def _values_of_png(content: bytes, path: PathLike) -> np.ndarray:
    """All bits of a PNG with colors, of which pillow keeps eight: (height, width, 3)."""
    cv2 = require("cv2", extra="data")
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError(f"{path}: cannot be decoded, truncated or not an image.")
    return values[..., 2::-1]


def _bands_of_tiff(content: bytes, path: PathLike) -> np.ndarray:
    """The first band of a TIFF of one or two, (height, width), or the first three of more, (height, width, 3)."""
    rasterio = require("rasterio", extra="geo")
    errors = require("rasterio.errors", extra="geo")
    # Python keeps the filters of warnings for all threads together.
    with _FILTERING, warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        try:
            with rasterio.MemoryFile(content) as file, file.open() as dataset:
                if dataset.width * dataset.height > _MOST_PIXELS:
                    raise ValueError(
                        f"{path}: {dataset.width} x {dataset.height} pixels are too many to read whole."
                    )
                bands = dataset.read([1, 2, 3] if dataset.count >= 3 else [1])
        except errors.RasterioError as error:
            raise ValueError(f"{path}: cannot be decoded, truncated or not a TIFF ({error}).") from error
    return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1)


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels as RGB, turned as an EXIF orientation says."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
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
