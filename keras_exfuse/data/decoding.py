"""Files to pixels inside a TensorFlow graph: exact, and equal to what pillow reads.

For what cannot call Python: exported models and the TensorFlow Datasets builder; `decode_mask` also for a `tf.data`
pipeline of one's own. The package's pipelines decode in Python (`reading.py`), in less time. Everything here is
called with tensors, and a file that cannot be read makes the operation fail.
"""

import struct
import zlib
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse._palette import sorted_color_keys

# Positions in every PNG: the IHDR chunk comes first and has a fixed length.
_DEPTH, _COLOR_TYPE, _HEADER_CHECKSUM, _AFTER_HEADER = 24, 25, 29, 33


def require_that(condition: Any, what: Any) -> Any:
    """In graph: an operation that fails unless the condition holds.

    `tf.debugging.Assert` wraps every check into a conditional, which makes building and starting a pipeline
    slow.
    """
    return require("tensorflow", extra="data").raw_ops.Assert(condition=condition, data=[what])


def _checksum_change() -> list[int]:
    """What to xor into the checksum of IHDR when its color type turns from 3 (palette) to 0 (gray).

    CRC-32 is affine, so for a chunk of fixed length this does not depend on the rest of the chunk.
    """

    def checksum(color_type: int) -> int:
        return zlib.crc32(b"IHDR" + struct.pack(">IIBBBBB", 1, 1, 8, color_type, 0, 0, 0))

    return list(struct.pack(">I", checksum(3) ^ checksum(0)))


def _byte(content: Any, position: int) -> Any:
    """One byte of a file as an int32; the file must be long enough."""
    tf = require("tensorflow", extra="data")
    return tf.cast(tf.io.decode_raw(tf.strings.substr(content, position, 1), tf.uint8)[0], tf.int32)


def _without_palette(content: Any) -> Any:
    """A palette PNG rewritten as a gray one, so that a decoder gives the indices and not the colors.

    The closed form of `voc_colors_to_labels` is right for the VOC palette only; this is right for every
    palette, also one with a color twice, and less work (benchmarks/input_pipeline.py measures both).
    """
    tf = require("tensorflow", extra="data")
    characters = tf.constant([bytes([value]) for value in range(256)])
    checksum = tf.io.decode_raw(tf.strings.substr(content, _HEADER_CHECKSUM, 4), tf.uint8)
    checksum = tf.bitwise.bitwise_xor(checksum, tf.constant(_checksum_change(), tf.uint8))
    return tf.strings.join(
        [
            tf.strings.substr(content, 0, _COLOR_TYPE),
            characters[0],
            tf.strings.substr(content, _COLOR_TYPE + 1, _HEADER_CHECKSUM - _COLOR_TYPE - 1),
            tf.strings.reduce_join(tf.gather(characters, tf.cast(checksum, tf.int32))),
            tf.strings.substr(content, _AFTER_HEADER, 2**31 - 1),
        ]
    )


def voc_colors_to_labels(colors: Any) -> Any:
    """In graph: the label of every color of the VOC color map, by the closed form.

    Args:
        colors: Tensor (..., 3) of uint8, RGB.

    Returns:
        Tensor (...) of uint8. A color that is not in the map makes the operation fail.

    Source: the inverse of `VOClabelcolormap.m`: bit 3j+c of the label is bit 7-j of channel c.
    """
    tf = require("tensorflow", extra="data")
    colors = tf.convert_to_tensor(colors)
    shift = tf.bitwise.right_shift
    labels = tf.zeros(tf.shape(colors)[:-1], tf.uint8)
    for bit in range(8):  # Bit 3j+c of the label is bit 7-j of channel c.
        j, channel = divmod(bit, 3)
        found = shift(colors[..., channel], tf.constant(7 - j, tf.uint8)) & tf.constant(1, tf.uint8)
        labels |= tf.bitwise.left_shift(found, tf.constant(bit, tf.uint8))
    # A label has eight bits: three go to red and green each, two to blue. The map uses no other bits.
    others = tf.reduce_max(colors & tf.constant([0x1F, 0x1F, 0x3F], tf.uint8))
    with tf.control_dependencies([require_that(others == 0, "a color outside the VOC color map")]):
        return tf.identity(labels)


def _table_colors_to_labels(colors: Any, color_table: np.ndarray) -> Any:
    """In graph: the label of every color by a table; an unknown color makes the operation fail."""
    tf = require("tensorflow", extra="data")
    keys, labels = sorted_color_keys(color_table)
    wide = tf.cast(colors, tf.int32)
    packed = wide[..., 0] * 65536 + wide[..., 1] * 256 + wide[..., 2]
    sorted_keys = tf.constant(keys, tf.int32)
    position = tf.searchsorted(sorted_keys, tf.reshape(packed, [-1]))
    position = tf.reshape(tf.minimum(position, len(keys) - 1), tf.shape(packed))
    known = tf.reduce_all(tf.gather(sorted_keys, position) == packed)
    with tf.control_dependencies([require_that(known, "a color outside the color table")]):
        return tf.gather(tf.constant(labels), position)


def decode_mask(content: Any, color_table: np.ndarray | str | None = "voc") -> Any:
    """In graph: a PNG mask to labels, as `read_mask` reads it; a mask with colors and alpha fails.

    Args:
        content: Scalar string tensor, the file's bytes.
        color_table: For RGB masks: array (N, 3) whose row number is the label, `"voc"`, or `None` to refuse
            them.

    Returns:
        Tensor (height, width) of uint8. Anything that is no mask makes the operation fail.
    """
    tf = require("tensorflow", extra="data")
    is_png = tf.strings.substr(content, 0, 8) == b"\x89PNG\r\n\x1a\n"
    valid = is_png & (tf.strings.length(content) > _AFTER_HEADER)
    with tf.control_dependencies([require_that(valid, "not a PNG")]):
        depth, color_type = _byte(content, _DEPTH), _byte(content, _COLOR_TYPE)

    def gray(png: Any) -> Any:
        # The decoder stretches 1, 2 and 4 bits of gray to 0..255.
        labels = tf.io.decode_png(png, channels=1)[..., 0]
        stretch = tf.cast(255 // (tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1), tf.uint8)
        return tf.cond(depth < 8, lambda: labels // stretch, lambda: labels)

    def wide() -> Any:
        labels = tf.io.decode_png(content, channels=1, dtype=tf.uint16)[..., 0]
        largest = tf.reduce_max(tf.cast(labels, tf.int32))
        with tf.control_dependencies([require_that(largest <= 255, "a 16-bit label over 255")]):
            return tf.cast(labels, tf.uint8)

    def colored() -> Any:
        colors = tf.io.decode_png(content, channels=3)
        if color_table is not None and not isinstance(color_table, str):
            return _table_colors_to_labels(colors, color_table)
        values = colors[..., 0]
        is_gray = tf.reduce_all(colors == values[..., None])
        if color_table is None:
            return tf.cond(is_gray, lambda: values, refuse)
        # Black and (128, 128, 128) alone are VOC's background and car.
        is_voc = tf.reduce_all((values == 0) | (values == 128))
        return tf.cond(is_gray & ~is_voc, lambda: values, lambda: voc_colors_to_labels(colors))

    def gray_with_alpha() -> Any:
        return tf.io.decode_png(content, channels=1)[..., 0]

    def refuse() -> Any:
        with tf.control_dependencies([require_that(tf.constant(False), "not a mask that can be read")]):
            return tf.zeros([0, 0], tf.uint8)

    branches = [
        lambda: gray(_without_palette(content)),
        lambda: gray(content),
        wide,
        colored,
        gray_with_alpha,
        refuse,
    ]
    kinds = [
        color_type == 3,
        (color_type == 0) & (depth <= 8),
        color_type == 0,
        (color_type == 2) & (depth == 8),
        (color_type == 4) & (depth == 8),
        tf.constant(True),
    ]
    kind = tf.argmax(tf.cast(tf.stack(kinds), tf.int32), output_type=tf.int32)
    return tf.ensure_shape(tf.switch_case(kind, branches), [None, None])


class EncodedImage:
    """In graph: a JPEG or PNG file, as `read_image` reads it.

    Args:
        content: Scalar string tensor, the file's bytes. If it is no JPEG or PNG, using it fails.
    """

    def __init__(self, content: Any):
        tf = require("tensorflow", extra="data")
        self.content = content
        self.is_jpeg = tf.strings.substr(content, 0, 3) == b"\xff\xd8\xff"
        self.orientation = exif_orientation(content)

    def size(self) -> Any:
        """Height and width as it will be read, without decoding it; int32 tensor (2,)."""
        tf = require("tensorflow", extra="data")

        def jpeg() -> Any:
            return tf.io.extract_jpeg_shape(self.content)[:2]

        def png() -> Any:
            sides = tf.cast(tf.io.decode_raw(tf.strings.substr(self.content, 16, 8), tf.uint8), tf.int32)
            return tf.reduce_sum(tf.reshape(sides, [2, 4]) * [1 << 24, 1 << 16, 1 << 8, 1], axis=1)[::-1]

        size = tf.cond(self.is_jpeg, jpeg, png)
        return tf.ensure_shape(tf.where(self.orientation >= 5, size[::-1], size), [2])

    def whole(self) -> Any:
        """The image: tensor (height, width, 3) of uint8."""
        tf = require("tensorflow", extra="data")

        def turned() -> Any:
            image, turn = _decode(self.content), self.orientation
            image = tf.cond(turn >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
            rows, columns = tf.reduce_any(turn == [3, 4, 7, 8]), tf.reduce_any(turn == [2, 3, 6, 7])
            return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([rows, columns, False]))

        image = tf.cond(self.orientation > 1, turned, lambda: _decode(self.content))
        return tf.ensure_shape(image, [None, None, 3])


def _decode(content: Any) -> Any:
    """JPEG or PNG, by its first bytes (the operation knows both); of 16 bits the upper eight that are in use."""
    tf = require("tensorflow", extra="data")

    def wide() -> Any:
        values = tf.cast(tf.io.decode_png(content, channels=3, dtype=tf.uint16), tf.int32)
        shift = tf.reduce_sum(
            tf.cast(tf.reduce_max(values) >= [1 << bits for bits in range(8, 16)], tf.int32)
        )
        return tf.cast(tf.bitwise.right_shift(values, shift), tf.uint8)

    def narrow() -> Any:
        # The accurate transform is what pillow (and torch) use; TensorFlow's default is up to 21 gray values off.
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")

    head = tf.strings.join([tf.strings.substr(content, 0, _DEPTH + 1), b"\0" * (_DEPTH + 1)])
    is_png = tf.strings.substr(head, 0, 4) == b"\x89PNG"
    return tf.cond(is_png & (tf.strings.substr(head, _DEPTH, 1) == b"\x10"), wide, narrow)


def exif_orientation(content: Any) -> Any:
    """In graph: the EXIF orientation of a JPEG or PNG, 1 to 8; 1 if it has none.

    The orientation stands in the first directory of the EXIF segment, which follows the file's first marker,
    so its twelve-byte entry is looked for in the 512 bytes behind the word "Exif" (in a PNG, "eXIf").
    """
    tf = require("tensorflow", extra="data")
    head = tf.strings.substr([content], 0, 4096)
    is_png = tf.strings.substr(content, 0, 4) == b"\x89PNG"
    word = tf.where(is_png, b"eXIf", b"Exif\x00\x00")
    parts = tf.raw_ops.StringSplitV2(input=head, sep=word, maxsplit=1).values

    def search() -> Any:
        data = tf.cast(tf.io.decode_raw(tf.strings.substr(parts[1], 0, 512), tf.uint8), tf.int32)
        windows = tf.signal.frame(data, 10, 1)
        little = tf.reduce_all(windows[:, :8] == [0x12, 1, 3, 0, 1, 0, 0, 0], axis=-1)
        big = tf.reduce_all(windows[:, :8] == [1, 0x12, 0, 3, 0, 0, 0, 1], axis=-1)
        value = tf.where(little, windows[:, 8], tf.where(big, windows[:, 9], 0))
        found = tf.reduce_max(tf.concat([value, [0]], axis=0))
        return tf.where((found >= 1) & (found <= 8), found, 1)

    return tf.cond(tf.shape(parts)[0] > 1, search, lambda: tf.constant(1))
