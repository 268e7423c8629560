"""Random changes of an image and its mask together: numpy and OpenCV, one window, one resize."""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS, MEAN_COLOR_UINT8
from keras_exfuse._optional import require

# Positions in the vector of random numbers that one example gets.
_SCALE, _ASPECT, _FLIP, _ROTATION, _TOP, _LEFT, _DOWN, _RIGHT = range(8)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _BLUR, _BLUR_SIGMA = range(8, 14)
_NUMBERS = 14
_BALANCED_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens at random to an image and its mask in training.

    A window of the image is cut out, scaled, flipped and, where the image ends, padded to `crop_size`:
    the image with the mean color, the mask with 255. The window comes first, so the cost is that of the
    crop and not of the scaled image. Labels are never interpolated. All numbers come from the seed of the
    example, so the same seed gives the same crop, however many workers there are.

    Args:
        crop_size: Side of the square crop in pixels, or (height, width).
        scale: Range of the random scale; (1, 1) for none. Drawn uniformly in the logarithm.
        flip: Whether half of the images are flipped left to right.
        aspect: Range of the random ratio of width to height, beside 1; (1, 1) for none.
        rotation: Largest rotation in degrees, either way; 0 for none. It costs more than scaling.
        brightness: Largest change, as a share of 255, either way; 0 for none.
        contrast: Largest change of the factor about the mean gray, either way; 0 for none.
        saturation: Largest change of the factor about gray, either way; 0 for none.
        hue: Largest turn of the hue, as a share of the circle, at most 0.5; 0 for none.
        blur: Share of the images that are blurred (Gaussian, sigma 0.1 to 2 pixels); 0 for none.
        max_class_share: If given, up to ten windows are tried until no class has more than this share of the
            window's labelled pixels, so that crops of nothing but ground are rare.

    Raises:
        ValueError: If a number is outside its range; the text says which.

    Source: the paper does not state its crops and scales; GCN, which it builds on, trains on flipped whole
    images padded to 640 or 512. Scale, flip and padded crop are the habit of the field, `max_class_share`
    (0.75 is usual) that of later work.

    Example:
    >>> Augmentation(crop_size=512, scale=(0.5, 2.0)).size
    (512, 512)
    """

    crop_size: int | tuple[int, int] = 256
    scale: tuple[float, float] = (0.75, 1.5)
    flip: bool = True
    aspect: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    max_class_share: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        if isinstance(self.crop_size, int):
            return self.crop_size, self.crop_size
        return int(self.crop_size[0]), int(self.crop_size[1])

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"crop_size must be at least 1 pixel, got {self.crop_size}.")
        for name in ("scale", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high, got {(low, high)}.")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must lie in 0..180 degrees, got {self.rotation}.")
        for name, largest in (
            ("brightness", 1),
            ("contrast", 1),
            ("saturation", 1),
            ("hue", 0.5),
            ("blur", 1),
        ):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must lie in 0..{largest}, got {getattr(self, name)}.")
        if self.max_class_share is not None and not 0 < self.max_class_share <= 1:
            raise ValueError(f"max_class_share must lie in (0, 1], got {self.max_class_share}.")

    def apply(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        seed: tuple[int, int],
        out: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[Any, Any]:
        """Cut and change one example.

        Args:
            image: Array (height, width, 3) of uint8, RGB.
            mask: Array (height, width) of uint8.
            seed: Two whole numbers, the seed of this example.
            out: Arrays of uint8 for the result, parts of a batch perhaps; new ones if `None`.

        Returns:
            Image (crop height, crop width, 3) and mask (crop height, crop width), both uint8.

        Raises:
            ValueError: If `out` has other shapes or another type, or rows that are not in one piece.

        Example:
        >>> image, mask = np.zeros((30, 40, 3), np.uint8), np.ones((30, 40), np.uint8)
        >>> crop, labels = Augmentation(crop_size=64).apply(image, mask, seed=(0, 1))
        >>> crop.shape, sorted(set(labels.ravel().tolist()))
        ((64, 64, 3), [1, 255])
        """
        numbers = random_numbers(seed, _NUMBERS + 2 * _BALANCED_TRIES)
        crop, labels = out or (np.empty((*self.size, 3), np.uint8), np.empty(self.size, np.uint8))
        if out is not None:
            self._check_out(crop, labels)
        if self.rotation:
            crop[...], labels[...] = self._rotated_crop(image, mask, numbers)
        else:
            self._straight_crop(image, mask, numbers, crop, labels)
        return crop, labels

    def _check_out(self, crop: np.ndarray, labels: np.ndarray) -> None:
        """Refuse arrays that OpenCV would not write into: it makes new ones then, and says nothing."""
        shapes = (*self.size, 3), self.size
        fits = all(
            array.shape == shape and array.dtype == np.uint8 and array[0].flags.c_contiguous
            for array, shape in zip((crop, labels), shapes, strict=True)
        )
        if not fits:
            raise ValueError(
                f"out: expected uint8 arrays of shapes {shapes[0]} and {shapes[1]}, contiguous within each row, got "
                f"{crop.dtype} {crop.shape} with strides {crop.strides} and "
                f"{labels.dtype} {labels.shape} with strides {labels.strides}."
            )

    def _factors(self, numbers: list[float]) -> tuple[float, float]:
        """Random scale along the rows (height) and along the columns (width)."""
        scale = _between_in_logarithm(self.scale, numbers[_SCALE])
        root = math.sqrt(_between_in_logarithm(self.aspect, numbers[_ASPECT]))
        return scale / root, scale * root

    def _straight_crop(self, image: Any, mask: Any, numbers: list[float], crop: Any, labels: Any) -> None:
        """Crop without rotation: only the window that is seen is scaled."""
        cv2 = require("cv2", extra="data")
        # The window in pixels of the file, and its size after scaling, never larger than the crop.
        extents, targets = [], []
        for side, size, factor in zip(mask.shape, self.size, self._factors(numbers), strict=True):
            extents.append(min(max(1, round(size / factor)), side))
            targets.append(min(max(1, round(extents[-1] * factor)), size))
        (high, wide), (height, width) = extents, targets
        top = _random_place(mask.shape[0] - high, numbers[_TOP])
        left = _random_place(mask.shape[1] - wide, numbers[_LEFT])
        if self.max_class_share is not None:
            top, left = self._balanced_corner(mask, (high, wide), (top, left), numbers[_NUMBERS:])

        image, mask = image[top : top + high, left : left + wide], mask[top : top + high, left : left + wide]
        if self.flip and numbers[_FLIP] < 0.5:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        above = _random_place(self.size[0] - height, numbers[_DOWN])
        before = _random_place(self.size[1] - width, numbers[_RIGHT])
        edges = above, self.size[0] - height - above, before, self.size[1] - width - before
        if (high, wide) != (height, width):
            # Both about half-pixel centers, so they stay aligned; OpenCV's plain INTER_NEAREST is not. They are
            # written where they belong, which spares a copy of what needs no border.
            place = slice(above, above + height), slice(before, before + width)
            scaled = width, height
            image = cv2.resize(image, scaled, dst=crop[place], interpolation=cv2.INTER_LINEAR)
            mask = cv2.resize(mask, scaled, dst=labels[place], interpolation=cv2.INTER_NEAREST_EXACT)
        image = self._change_colors(image, numbers)
        if any(edges) or not (np.shares_memory(image, crop) and np.shares_memory(mask, labels)):
            cv2.copyMakeBorder(image, *edges, cv2.BORDER_CONSTANT, dst=crop, value=MEAN_COLOR_UINT8)
            cv2.copyMakeBorder(mask, *edges, cv2.BORDER_CONSTANT, dst=labels, value=IGNORE_CLASS)

    def _balanced_corner(
        self, mask: Any, extent: tuple[int, int], corner: tuple[int, int], numbers: list[float]
    ) -> tuple[int, int]:
        """Draw other windows until no class has more than `max_class_share` of it; the last one stands."""
        for attempt in range(_BALANCED_TRIES):
            (top, left), (high, wide) = corner, extent
            if self._is_balanced(mask[top : top + high, left : left + wide]):
                break
            corner = (
                _random_place(mask.shape[0] - high, numbers[2 * attempt]),
                _random_place(mask.shape[1] - wide, numbers[2 * attempt + 1]),
            )
        return corner

    def _is_balanced(self, window: Any) -> bool:
        """Whether no class has more than `max_class_share` of a mask's labelled pixels."""
        if self.max_class_share is None:
            return True
        # Every second pixel tells the shares well enough, at a quarter of the work.
        counts = np.bincount(window[::2, ::2].ravel(), minlength=256)[:IGNORE_CLASS]
        return bool(counts.max() <= self.max_class_share * counts.sum())

    def _rotated_crop(self, image: Any, mask: Any, numbers: list[float]) -> tuple[Any, Any]:
        """Crop with rotation: one affine map from the crop back into the image, for image and mask."""
        cv2 = require("cv2", extra="data")
        scale_y, scale_x = self._factors(numbers)
        angle = math.radians((2 * numbers[_ROTATION] - 1) * self.rotation)
        cosine, sine = math.cos(angle), math.sin(angle)
        if self.flip and numbers[_FLIP] < 0.5:
            scale_x = -scale_x
        (height, width), (crop_height, crop_width) = mask.shape, self.size
        # x_in = a x_out + b y_out + c, y_in = d x_out + e y_out + f, in pixel centers.
        a, b = cosine / scale_x, -sine / scale_x
        d, e = sine / scale_y, cosine / scale_y
        middle_x, middle_y = (crop_width - 1) / 2, (crop_height - 1) / 2
        # The crop's center goes to a random place where the window stays inside the image, if it fits.
        slack_y = max(height - crop_height / scale_y, 0.0)
        slack_x = max(width - crop_width / abs(scale_x), 0.0)

        def matrix(down: float, right: float) -> np.ndarray:
            center_y = height / 2 + (down - 0.5) * slack_y
            center_x = width / 2 + (right - 0.5) * slack_x
            c = center_x - 0.5 - a * middle_x - b * middle_y
            f = center_y - 0.5 - d * middle_x - e * middle_y
            return np.array([[a, b, c], [d, e, f]])

        def warp(pixels: Any, matrix: np.ndarray, interpolation: int, fill: Any) -> Any:
            flags = interpolation | cv2.WARP_INVERSE_MAP
            size = crop_width, crop_height
            return cv2.warpAffine(
                pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
            )

        chosen = matrix(numbers[_TOP], numbers[_LEFT])
        labels = warp(mask, chosen, cv2.INTER_NEAREST, IGNORE_CLASS)
        for place in range(_NUMBERS, len(numbers), 2):
            if self._is_balanced(labels):
                break
            chosen = matrix(numbers[place], numbers[place + 1])
            labels = warp(mask, chosen, cv2.INTER_NEAREST, IGNORE_CLASS)
        return warp(self._change_colors(image, numbers), chosen, cv2.INTER_LINEAR, MEAN_COLOR_UINT8), labels

    def _change_colors(self, image: Any, numbers: list[float]) -> Any:
        """Brightness, contrast, saturation, hue and blur; the mask does not change."""

        def around(largest: float, position: int) -> float:
            return largest * (2 * numbers[position] - 1)

        if self.brightness or self.contrast:
            image = _tone(image, around(self.brightness, _BRIGHTNESS), around(self.contrast, _CONTRAST))
        if self.saturation:
            image = _saturate(image, 1 + around(self.saturation, _SATURATION))
        if self.hue:
            image = _turn_hue(image, around(self.hue, _HUE))
        if self.blur and numbers[_BLUR] < self.blur:
            cv2 = require("cv2", extra="data")
            sigma = 0.1 + 1.9 * numbers[_BLUR_SIGMA]
            image = cv2.GaussianBlur(image, (13, 13), sigma, borderType=cv2.BORDER_REPLICATE)
        return image


def random_numbers(seed: tuple[int, int], count: int) -> list[float]:
    """Numbers in [0, 1) that are a function of the seed alone.

    The raw output of a counter-based generator: unlike the methods of `numpy.random.Generator`, it cannot
    change with numpy's version.
    """
    key = np.array([number % 2**64 for number in seed], np.uint64)
    raw = np.random.Philox(key=key).random_raw(count)
    return ((raw >> np.uint64(11)) * 2.0**-53).tolist()


def _between_in_logarithm(limits: tuple[float, float], number: float) -> float:
    low, high = (float(value) for value in limits)
    return low * (high / low) ** number


def _random_place(room: int, number: float) -> int:
    """One of the `room + 1` places along an axis, all alike."""
    return min(int(number * (room + 1)), room)


def _tone(image: Any, brightness: float, contrast: float) -> Any:
    """Add a share of 255, then stretch about the mean gray; a table of the 256 values does both."""
    cv2 = require("cv2", extra="data")
    values = np.arange(256) + 255 * brightness
    middle = float(np.mean(cv2.mean(image)[:3])) + 255 * brightness
    table = middle + (values - middle) * (1 + contrast)
    return cv2.LUT(image, np.clip(np.round(table), 0, 255).astype(np.uint8))


def _saturate(image: Any, factor: float) -> Any:
    cv2 = require("cv2", extra="data")
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, gray, 1 - factor, 0)


def _turn_hue(image: Any, turn: float) -> Any:
    """Turn the hue; in floats, because OpenCV's bytes hold it in steps of two degrees."""
    cv2 = require("cv2", extra="data")
    colors = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    colors[..., 0] = (colors[..., 0] + 360 * turn) % 360
    return np.round(255 * cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)).clip(0, 255).astype(np.uint8)
