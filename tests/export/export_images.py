"""Images and files, good and bad, that the tests of exports and servers send."""

import functools
import io
import struct
import zlib

import keras
import numpy as np

from keras_exfuse import ExFuse
from tests.helpers import draw_weights, tiny_backbone

CLASS_NAMES = ("ground", "leaf", "stem", "sky")


def tiny_model():
    """An ExFuse of four classes whose labels differ from place to place."""
    keras.utils.set_random_seed(0)
    return draw_weights(ExFuse(len(CLASS_NAMES), backbone=tiny_backbone(), kernel_size=3), scale=0.15)


@functools.cache
def real_image(name="chelsea"):
    """A photograph that scikit-image carries, uint8 (H, W, 3)."""
    from skimage import data

    return np.ascontiguousarray(getattr(data, name)()[..., :3])


def as_file(image, kind="JPEG", **options):
    """The bytes of an image's file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, **options)
    return content.getvalue()


def from_file(content):
    """The values that a PNG file stores."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))


def png_of_size(width, height):
    """A PNG whose header promises a size; its few bytes of pixels are valid, but too short."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@functools.cache
def bad_files():
    """What a careless or hostile client sends, and a word of the answer that names the trouble."""
    jpeg = as_file(real_image()[:100, :140])
    return {
        "empty": (b"", "empty"),
        "text": (b"This is no image.\n" * 20, "not an image"),
        "start_of_a_jpeg": (b"\xff\xd8\xff", "truncated"),
        "truncated_jpeg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated_png": (as_file(real_image()[:20, :20], "PNG")[:-30], "truncated"),
        "png_bomb": (png_of_size(30_000, 30_000), "too many pixels"),
        "png_of_4_billion": (png_of_size(2**32 - 1, 2**32 - 1), "too many pixels"),
        "no_pixels": (png_of_size(0, 7), "or none"),
        "wrong_pixels": (png_of_size(50, 50), "Invalid PNG data"),
        "text_as_jpeg": (b"\xff\xd8\xff" + b"no image " * 20 + b"\xff\xd9", "Invalid JPEG data"),
        "gif": (b"GIF89a" + bytes(100), "not an image"),
    }
