"""A synthetic segmentation data set in VOC layout: textured shapes on textured ground.

Small enough to be made in seconds, hard enough that a network has to look at shape and texture: colors are
drawn at random and tell nothing about the class.
"""

from pathlib import Path

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require

# Brighter than the VOC palette; only for overlays, the masks on disk have the VOC palette.
PALETTE = np.array([[128, 128, 128], [230, 60, 60], [40, 170, 80], [245, 190, 20], [60, 110, 240]], "uint8")
CLASS_NAMES = ("ground", "striped disc", "checked square", "dotted triangle", "ringed star")


def write_dataset(root: str | Path, *, train: int = 400, val: int = 30, seed: int = 0) -> Path:
    """Write the data set: images, palette masks with a void border, lists and class names.

    Args:
        root: Folder to write to; `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation` appear in it.
        train: Number of images in the split `train`.
        val: Number of images in the split `val`.
        seed: Images are the same for the same seed.

    Returns:
        The folder.
    """
    from keras_exfuse.visualize import palette_image

    root = Path(root)
    pil = require("PIL.Image", extra="data")
    images, masks, lists = (
        root / "JPEGImages",
        root / "SegmentationClass",
        root / "ImageSets" / "Segmentation",
    )
    for folder in (images, masks, lists):
        folder.mkdir(parents=True, exist_ok=True)
    for stream, (split, count) in enumerate({"train": train, "val": val}.items()):
        names = [f"{split}_{number:04d}" for number in range(count)]
        for number, name in enumerate(names):
            image, mask = make_image(np.random.default_rng([seed, stream, number]))
            pil.fromarray(image).save(images / f"{name}.jpg", quality=92)
            palette_image(mask).save(masks / f"{name}.png")
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    return root


def make_image(
    random: np.random.Generator, sides: tuple[int, int] = (112, 176), shapes: tuple[int, int] = (2, 4)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image and its mask.

    Args:
        random: Source of every choice.
        sides: Least and greatest height and width, in pixels.
        shapes: Least and greatest number of shapes; later ones may cover earlier ones.

    Returns:
        RGB uint8 (H, W, 3), and labels uint8 (H, W) with a border of 255 around each shape.
    """
    height, width = (int(side) for side in random.integers(sides[0], sides[1] + 1, 2))
    image = _two_colors(_ground(height, width, random), random)
    mask = np.zeros((height, width), "uint8")
    for _ in range(random.integers(shapes[0], shapes[1] + 1)):
        label = int(random.integers(1, len(CLASS_NAMES)))
        radius = random.uniform(18, 36)
        center = random.uniform(0.1, 0.9) * height, random.uniform(0.1, 0.9) * width
        inside, core, rim = _shape(label, center, radius, (height, width), random)
        surface = _two_colors(_texture(label, center, mask.shape, random), random)
        image = np.where(inside[..., None], surface, image)
        mask[core] = label
        mask[rim] = IGNORE_CLASS
    image += random.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype("uint8"), mask


# === Shapes ===


def _shape(label: int, center, radius: float, size: tuple[int, int], random) -> tuple[np.ndarray, ...]:
    """The shape's pixels; those safely inside; and those of its border, which VOC marks as void."""
    pil, draw, filters = (
        require(f"PIL.{name}", extra="data") for name in ("Image", "ImageDraw", "ImageFilter")
    )
    canvas = pil.new("L", size[::-1])
    row, column = center
    turn = random.uniform(0, 2 * np.pi)
    corners = [
        (column + radius * r * np.cos(angle + turn), row + radius * r * np.sin(angle + turn))
        for angle, r in _corners(label)
    ]
    draw.Draw(canvas).polygon(corners, fill=255)
    larger, smaller = canvas.filter(filters.MaxFilter(3)), canvas.filter(filters.MinFilter(3))
    inside, larger, smaller = (np.asarray(each) > 0 for each in (canvas, larger, smaller))
    return inside, smaller, larger & ~smaller


def _corners(label: int) -> list[tuple[float, float]]:
    """(angle, distance from the center) of each corner: disc, square, triangle, star."""
    if label == 4:
        return [(np.pi * k / 5, 1.0 if k % 2 == 0 else 0.5) for k in range(10)]
    count = {1: 48, 2: 4, 3: 3}[label]
    return [(2 * np.pi * k / count, 1.0) for k in range(count)]


# === Textures: values 0..1, turned into a mixture of two colors ===


def _texture(label: int, center, size: tuple[int, int], random) -> np.ndarray:
    turn, pitch = random.uniform(0, np.pi), 2 * np.pi / random.uniform(7, 11)
    row, column = (axis - middle for axis, middle in zip(np.indices(size), center, strict=True))
    along = pitch * (column * np.cos(turn) + row * np.sin(turn))
    across = pitch * (row * np.cos(turn) - column * np.sin(turn))
    if label == 1:
        wave = np.sin(along)
    elif label == 2:
        wave = np.sin(along) * np.sin(across) * 2
    elif label == 3:
        wave = (np.cos(along) + np.cos(across) - 1) * 1.5
    else:
        wave = np.sin(pitch * np.hypot(row, column))
    return 0.5 + 0.5 * np.clip(wave * 2, -1, 1)


def _ground(height: int, width: int, random) -> np.ndarray:
    """Cloud-like noise: random grids of growing fineness, enlarged smoothly and added up."""
    pil = require("PIL.Image", extra="data")
    total = np.zeros((height, width))
    for cells, weight in ((3, 1.0), (8, 0.6), (24, 0.5), (64, 0.3)):
        grid = pil.fromarray(random.random((cells, cells)).astype("float32"))
        total += weight * np.asarray(grid.resize((width, height), pil.Resampling.BICUBIC))
    total -= total.min()
    return total / total.max()


def _two_colors(values: np.ndarray, random) -> np.ndarray:
    """Mixes two colors that differ clearly."""
    first = random.uniform(0, 255, 3)
    second = (first + random.uniform(70, 185, 3)) % 256
    return first + values[..., None] * (second - first)
