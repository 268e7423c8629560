"""Random changes of a picture and its mask together, inside the pipeline."""

import dataclasses
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.decoding import EncodedPicture
from keras_exfuse.data.palette import MEAN_COLOUR, VOID
from keras_exfuse.data.targets import resized_labels_tf

# Positions in the vector of random numbers that one example gets.
_SCALE, _ASPECT, _FLIP, _ROTATION, _TOP, _LEFT, _DOWN, _RIGHT = range(8)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _BLUR, _BLUR_SIGMA = range(8, 14)
_NUMBERS = 14
_BALANCED_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens at random to a picture and its mask in training.

    A window of the picture is cut out, scaled, flipped and, where the picture ends, padded to `crop_size`:
    the picture with the mean colour, the mask with 255. Labels are never interpolated. All numbers come from
    the seed of the example, so the same seed gives the same crop, however many workers there are.

    Args:
        crop_size: Side of the square crop in pixels, or (height, width).
        scale: Range of the random scale; (1, 1) for none. Drawn uniformly in the logarithm.
        flip: Whether half of the pictures are mirrored left to right.
        aspect: Range of the random ratio of width to height, beside 1; (1, 1) for none.
        rotation: Largest rotation in degrees, either way; 0 for none. It costs a decode of the whole picture.
        brightness: Largest change, as a share of 255, either way; 0 for none.
        contrast: Largest change of the factor about the mean gray, either way; 0 for none.
        saturation: Largest change of the factor about gray, either way; 0 for none.
        hue: Largest turn of the hue, as a share of the circle, at most 0.5; 0 for none.
        blur: Share of the pictures that are blurred (Gaussian, sigma 0.1 to 2 pixels); 0 for none.
        max_class_share: If given, up to ten windows are tried until no class has more than this share of the
            window's judged pixels, so that crops of nothing but ground are rare.

    Raises:
        ValueError: If a number is outside its range; the text says which.

    Source: the paper does not state its crops and scales; GCN, which it builds on, trains on flipped whole
    pictures padded to 640 or 512. Scale, flip and padded crop are the habit of the field, `max_class_share`
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

    def apply(self, picture: EncodedPicture, mask: Any, seed: Any) -> tuple[Any, Any]:
        """In graph: cut and change one example.

        Args:
            picture: The picture's file, not yet decoded.
            mask: Tensor (height, width) of uint8, the whole mask; the picture has the same size.
            seed: int64 tensor (2,), the seed of this example.

        Returns:
            Picture (crop height, crop width, 3) and mask (crop height, crop width), both uint8.
        """
        tf = require("tensorflow", extra="data")
        numbers = tf.random.stateless_uniform([_NUMBERS], seed, alg="philox")
        if self.rotation:
            image, mask = self._rotated_crop(picture.whole(), mask, numbers)
        else:
            image, mask = self._straight_crop(picture, mask, numbers, seed)
        return tf.ensure_shape(image, [*self.size, 3]), tf.ensure_shape(mask, self.size)

    def _factors(self, numbers: Any) -> tuple[Any, Any]:
        """Random scale along the rows (height) and along the columns (width)."""
        tf = require("tensorflow", extra="data")
        scale = _between_in_logarithm(self.scale, numbers[_SCALE])
        root = tf.sqrt(_between_in_logarithm(self.aspect, numbers[_ASPECT]))
        return scale / root, scale * root

    def _straight_crop(self, picture: EncodedPicture, mask: Any, numbers: Any, seed: Any) -> tuple[Any, Any]:
        """Crop without rotation: only the window that is seen is decoded and scaled."""
        tf = require("tensorflow", extra="data")
        factors = tf.stack(self._factors(numbers))
        sides, size = tf.shape(mask), tf.constant(self.size)
        # The window in pixels of the file, and its size after scaling, never larger than the crop.
        extent = tf.cast(tf.round(tf.constant(self.size, tf.float32) / factors), tf.int32)
        extent = tf.clip_by_value(extent, 1, sides)
        target = tf.cast(tf.round(tf.cast(extent, tf.float32) * factors), tf.int32)
        target = tf.clip_by_value(target, 1, size)
        corner = _random_corner(sides - extent, numbers[_TOP : _LEFT + 1])
        if self.max_class_share is not None:
            corner = self._balanced_corner(mask, extent, corner, seed)

        image = picture.window(tf.concat([corner, extent], axis=0))
        mask = tf.slice(mask, corner, extent)
        image, mask = _resize(image, mask, target)
        if self.flip:
            image, mask = tf.cond(
                numbers[_FLIP] < 0.5,
                lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])),
                lambda: (image, mask),
            )
        image = self._change_colours(image, numbers)
        before = _random_corner(size - target, numbers[_DOWN : _RIGHT + 1])
        return _pad(image, mask, before, self.size)

    def _balanced_corner(self, mask: Any, extent: Any, corner: Any, seed: Any) -> Any:
        """Draw other windows until no class has more than `max_class_share` of it; the last one stands."""
        tf = require("tensorflow", extra="data")
        share = self.max_class_share
        tries = tf.random.stateless_uniform([_BALANCED_TRIES, 2], seed + [0, 1 << 40], alg="philox")
        room = tf.shape(mask) - extent

        def dominated(candidate: Any) -> Any:
            # Every second pixel tells the shares well enough, at a quarter of the work.
            end = candidate + extent
            window = mask[candidate[0] : end[0] : 2, candidate[1] : end[1] : 2]
            counts = tf.math.bincount(tf.reshape(tf.cast(window, tf.int32), [-1]), minlength=256)[:VOID]
            total = tf.reduce_sum(counts)
            return tf.cast(tf.reduce_max(counts), tf.float32) > share * tf.cast(total, tf.float32)

        def another(number: Any, candidate: Any) -> tuple[Any, Any]:
            return number + 1, tf.cast(tries[number] * tf.cast(room + 1, tf.float32), tf.int32)

        return tf.while_loop(
            lambda number, candidate: (number < _BALANCED_TRIES) & dominated(candidate),
            another,
            (tf.constant(0), corner),
        )[1]

    def _rotated_crop(self, image: Any, mask: Any, numbers: Any) -> tuple[Any, Any]:
        """Crop with rotation: one affine map from the crop back into the picture, for picture and mask."""
        tf = require("tensorflow", extra="data")
        scale_y, scale_x = self._factors(numbers)
        angle = (2 * numbers[_ROTATION] - 1) * (self.rotation * 3.141592653589793 / 180)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        if self.flip:
            scale_x = tf.where(numbers[_FLIP] < 0.5, -scale_x, scale_x)
        height, width = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(mask)))
        crop_height, crop_width = self.size
        # The crop's centre goes to a random place where the window stays inside the picture, if it fits.
        slack_y = tf.maximum(height - crop_height / scale_y, 0.0)
        slack_x = tf.maximum(width - crop_width / tf.abs(scale_x), 0.0)
        centre_y = height / 2 + (numbers[_TOP] - 0.5) * slack_y
        centre_x = width / 2 + (numbers[_LEFT] - 0.5) * slack_x
        # x_in = a x_out + b y_out + c, y_in = d x_out + e y_out + f, in pixel centres.
        a, b = cosine / scale_x, -sine / scale_x
        d, e = sine / scale_y, cosine / scale_y
        middle_x, middle_y = (crop_width - 1) / 2, (crop_height - 1) / 2
        c = centre_x - 0.5 - a * middle_x - b * middle_y
        f = centre_y - 0.5 - d * middle_x - e * middle_y
        transform = tf.stack([a, b, c, d, e, f, 0.0, 0.0])[None]

        def warp(pixels: Any, interpolation: str, fill: float) -> Any:
            return tf.raw_ops.ImageProjectiveTransformV3(
                images=pixels[None],
                transforms=transform,
                output_shape=list(self.size),
                interpolation=interpolation,
                fill_mode="CONSTANT",
                fill_value=fill,
            )[0]

        # The operation knows one fill value, the picture needs one per channel: pad with 0 about the mean.
        mean = tf.constant(MEAN_COLOUR, tf.float32)
        changed = tf.cast(self._change_colours(image, numbers), tf.float32) - mean
        image = _to_bytes(warp(changed, "BILINEAR", 0.0) + mean)
        return image, warp(mask[..., None], "NEAREST", float(VOID))[..., 0]

    def _change_colours(self, image: Any, numbers: Any) -> Any:
        """Brightness, contrast, saturation, hue and blur; the mask does not change."""
        if not (self.brightness or self.contrast or self.saturation or self.hue or self.blur):
            return image
        tf = require("tensorflow", extra="data")

        def around(largest: float, position: int) -> Any:
            return largest * (2 * numbers[position] - 1)

        pixels = tf.cast(image, tf.float32) / 255
        if self.brightness:
            pixels += around(self.brightness, _BRIGHTNESS)
        if self.contrast:
            gray = tf.reduce_mean(pixels)
            pixels = gray + (pixels - gray) * (1 + around(self.contrast, _CONTRAST))
        pixels = tf.clip_by_value(pixels, 0, 1)
        if self.saturation:
            gray = tf.image.rgb_to_grayscale(pixels)
            pixels = tf.clip_by_value(
                gray + (pixels - gray) * (1 + around(self.saturation, _SATURATION)), 0, 1
            )
        if self.hue:
            pixels = tf.image.adjust_hue(pixels, around(self.hue, _HUE))
        if self.blur:
            sigma = 0.1 + 1.9 * numbers[_BLUR_SIGMA]
            pixels = tf.cond(numbers[_BLUR] < self.blur, lambda: _blur(pixels, sigma), lambda: pixels)
        return _to_bytes(pixels * 255)


def _between_in_logarithm(limits: tuple[float, float], number: Any) -> Any:
    tf = require("tensorflow", extra="data")
    low, high = (float(value) for value in limits)
    return tf.constant(low) if low == high else low * tf.pow(high / low, number)


def _random_corner(room: Any, numbers: Any) -> Any:
    """A corner, uniform over the `room + 1` places along each axis."""
    tf = require("tensorflow", extra="data")
    places = tf.cast(room + 1, tf.float32)
    return tf.minimum(tf.cast(numbers * places, tf.int32), room)


def _to_bytes(pixels: Any) -> Any:
    tf = require("tensorflow", extra="data")
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def _resize(image: Any, mask: Any, size: Any) -> tuple[Any, Any]:
    """Bilinear for the picture, nearest for the mask, both about half-pixel centres, so they stay aligned."""
    tf = require("tensorflow", extra="data")

    def scaled() -> tuple[Any, Any]:
        smooth = tf.raw_ops.ResizeBilinear(images=image[None], size=size, half_pixel_centers=True)[0]
        # Bilinear values lie within 0..255; adding a half and cutting off rounds them.
        return tf.cast(smooth + 0.5, tf.uint8), resized_labels_tf(mask, (size[0], size[1]))

    return tf.cond(tf.reduce_all(tf.shape(mask) == size), lambda: (image, mask), scaled)


def _pad(image: Any, mask: Any, before: Any, size: tuple[int, int]) -> tuple[Any, Any]:
    """Pad the picture with the mean colour and the mask with 255, `before` above and to the left."""
    tf = require("tensorflow", extra="data")

    def padded() -> tuple[Any, Any]:
        # Three values a pixel, side by side, make the picture a plane like the mask.
        inner = tf.shape(mask)
        plane = tf.reshape(image, [inner[0], inner[1] * 3])
        plane = _surround(plane, before * [1, 3], np.tile(np.array(MEAN_COLOUR, np.uint8), size[1]), size[0])
        whole_mask = _surround(mask, before, np.full(size[1], VOID, np.uint8), size[0])
        return tf.reshape(plane, [*size, 3]), whole_mask

    return tf.cond(tf.reduce_all(tf.shape(mask) == list(size)), lambda: (image, mask), padded)


def _surround(plane: Any, before: Any, row: np.ndarray, height: int) -> Any:
    """Put a plane on a ground made of equal rows; copying blocks takes a fifth of the time of `tf.pad`."""
    tf = require("tensorflow", extra="data")
    line = tf.constant(row)
    rows, columns = tf.unstack(tf.shape(plane))
    top, left = tf.unstack(before)

    def ground(count: Any, part: Any) -> Any:
        return tf.broadcast_to(part, tf.stack([count, tf.shape(part)[0]]))

    middle = tf.concat([ground(rows, line[:left]), plane, ground(rows, line[left + columns :])], axis=1)
    return tf.concat([ground(top, line), middle, ground(height - top - rows, line)], axis=0)


def _blur(pixels: Any, sigma: Any) -> Any:
    """Gaussian blur, separable, 13 taps, the edge repeated outside."""
    tf = require("tensorflow", extra="data")
    radius = 6
    place = tf.range(-radius, radius + 1, dtype=tf.float32)
    taps = tf.exp(-tf.square(place / sigma) / 2)
    taps = tf.tile((taps / tf.reduce_sum(taps))[:, None, None], [1, 3, 1])
    # Symmetric padding by one pixel repeats the edge, whatever the size of the picture.
    padded = pixels[None]
    for _ in range(radius):
        padded = tf.pad(padded, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    padded = tf.nn.depthwise_conv2d(padded, taps[:, None], [1, 1, 1, 1], "VALID")
    return tf.nn.depthwise_conv2d(padded, taps[None], [1, 1, 1, 1], "VALID")[0]
