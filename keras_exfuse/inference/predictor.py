"""Labels, or scores, at each image's own size."""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_exfuse import _kernels
from keras_exfuse._constants import cycled_color
from keras_exfuse.backbones.adapters import input_channels
from keras_exfuse.data.reading import images_in
from keras_exfuse.inference._images import ValueRange, as_image, check_range, is_one
from keras_exfuse.inference._labels import label_type, to_labels
from keras_exfuse.inference.exported import ExportedModel
from keras_exfuse.inference.resizing import resize
from keras_exfuse.inference.tiling import Read, Windows
from keras_exfuse.inference.uncertainty import Segmentation, to_segmentation, with_uncertainty
from keras_exfuse.models._values import as_array

# Under JAX, Keras gives a model's arrays away for each call, and puts new ones in their place afterwards.
_turn: Any = threading.Lock() if keras.backend.backend() == "jax" else contextlib.nullcontext()


class Predictor:
    """Segments images of any size, one or many, with one call.

    The labels are exactly `argmax(model.predict(image))`. Images are padded here, with the mean color at the
    bottom and on the right, as the model itself would pad them, so that few different sizes reach the model and
    JAX does not compile it again for every new one.

    Under JAX what is compiled is stored in `keras_exfuse/jax` in Keras's home, and the next process finds it there;
    `KERAS_EXFUSE_COMPILATION_CACHE` in the environment names another directory, or is `off`.

    Several threads may call it at once; under JAX, the model runs for one of them at a time.

    Scales and flipping average probabilities. A window bounds the memory: the image is cut into overlapping
    windows, each goes through the model (at every scale, flipped or not), and the overlaps are blended smoothly.

    Args:
        model: A Keras model from RGB 0..255 (B, H, W, 3) to logits (B, H, W, num_classes), such as `ExFuse`; or an
            `ExportedModel`, which gives labels only.
        scales: Factors by which each image is resized; their probabilities are averaged.
        flip: Whether the flipped image counts too.
        window: Side of the windows in pixels, or None for whole images. An image that is not larger
            than the window is taken whole.
        stride: Distance between windows in pixels, at most `window`; half the window by default.
        batch_size: Images (of one size) or windows that go through the model together.
        size_multiple: Sides are padded to multiples of this, itself a multiple of 32. Above 32 there are fewer
            compilations under JAX, but more padding: labels near the border may then differ from `predict`'s.
        value_range: What stands for black and white in arrays, tensors and PIL images of more than eight bits, for
            example (0, 1), (-1, 1) or (0, 65535). `None` for 0..255: what cannot be that is refused, such as NaN,
            uint16 above 255, and floats with fractions that all lie in 0..1; (0, 255) takes even those as they are.
        return_uncertainty: Whether to return, in place of labels, a tuple `(labels, entropy, margin)` of arrays (H, W):
            entropy is 0 where the model is sure and 1 where all classes are equally probable, margin is how far the
            best class is ahead of the second.

    Raises:
        ValueError: If an argument is out of its range, or asks an exported model for more than labels.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> keras_exfuse.Predictor(model)(np.zeros((33, 47, 3), "uint8")).shape
    (33, 47)
    """

    def __init__(
        self,
        model,
        scales: tuple[float, ...] = (1.0,),
        flip: bool = False,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = 4,
        size_multiple: int = 32,
        value_range: ValueRange | None = None,
        return_uncertainty: bool = False,
    ):
        if not scales or min(scales) <= 0:
            raise ValueError(f"`scales` must be positive factors, at least one, got {scales!r}.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be 1 or more, got {batch_size}.")
        if size_multiple < 32 or size_multiple % 32:
            raise ValueError(f"`size_multiple` must be a multiple of 32, got {size_multiple}.")
        _kernels.keep_compilations()
        self.model = model
        self.channels = input_channels(model)
        if isinstance(model, ExportedModel):
            if tuple(scales) != (1.0,) or flip or window is not None or return_uncertainty:
                raise ValueError(
                    f"An exported model gives labels, and `scales`, `flip`, `window` and `return_uncertainty` need "
                    f"probabilities: use the Keras model, or leave them out with {model.path}."
                )
        else:
            self._labels, self._scores = Labels(model), Scores(model)
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = bool(flip)
        self.windows = None if window is None else Windows(window, stride)
        self.batch_size = batch_size
        self.size_multiple = size_multiple
        self.value_range = check_range(value_range)
        self.return_uncertainty = bool(return_uncertainty)

    def __call__(self, images, probabilities: bool = False):
        """Segment one image or several.

        Args:
            images: An image, as an array or a tensor (H, W, 3) RGB 0..255, a path, the bytes of a file, an open file
                (`open(path, "rb")`, `io.BytesIO`), or a PIL image; or several, as a list, an iterator such as
                `folder.glob("*.jpg")`, an array or a tensor (B, H, W, 3), or the path of a folder, whose images are
                taken in the order of their names.
            probabilities: Whether to return probabilities instead of labels.

        Returns:
            For one image: labels (H, W), uint8 (uint16 above 255 classes), with `return_uncertainty` a tuple of three
            arrays, or probabilities (H, W, num_classes), float32. For several: a list, or one array (or tuple of
            arrays) if an array or a tensor was given.

        Raises:
            ValueError: If an image cannot be read, is not RGB or cannot be 0..255 (see `value_range`); if there is no
                image; if an exported model is asked for probabilities or gets an image that is not uint8.
        """
        if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
            images = images_in(Path(images))
        if is_one(images):
            return next(self.stream([images], probabilities))
        is_array = hasattr(images, "shape")
        results = list(self.stream(as_array(images) if is_array else images, probabilities))
        if not results:
            shape = f" of shape {tuple(images.shape)}" if is_array else ""
            raise ValueError(f"There is no image in what was given: an empty {type(images).__name__}{shape}.")
        if not is_array:
            return results
        if isinstance(results[0], Segmentation):
            return Segmentation(*(np.stack(each) for each in zip(*results, strict=True)))
        return np.stack(results)

    def stream(self, images: Iterable, probabilities: bool = False) -> Iterator[np.ndarray | Segmentation]:
        """Segment images one after another: at no time are more than `batch_size` of them in memory.

        Args:
            images: What calling it takes as one image, from a list, a generator, a folder's `glob`.
            probabilities: Whether to yield probabilities instead of labels.

        Yields:
            What calling it gives for each image, in order.
        """
        if probabilities and isinstance(self.model, ExportedModel):
            raise ValueError(f"{self.model.path} gives labels only: probabilities need the Keras model.")
        waiting: list[np.ndarray] = []
        for image in images:
            array = as_image(image, self.value_range, self.channels)
            if self.windows is not None and self.windows.smaller_than(array):
                yield from self._flush(waiting, probabilities)
                waiting = []
                yield self._blend(self.windows, array, probabilities)
                continue
            if waiting and (waiting[0].shape != array.shape or len(waiting) == self.batch_size):
                yield from self._flush(waiting, probabilities)
                waiting = []
            waiting.append(array)
        yield from self._flush(waiting, probabilities)

    def blocks(self, height: int, width: int, read: Read) -> Iterator[tuple[int, int, np.ndarray]]:
        """Segment an image that need not be in memory, in windows, of 512 pixels where `window` is None.

        Args:
            height: Its height in pixels.
            width: Its width in pixels.
            read: From `top`, `left`, `rows` and `columns` of a part to its values (rows, columns, channels), 0..255.

        Yields:
            The first row and column of a block, and its labels (h, w); from the top to the bottom, from the left to the
            right.

        Raises:
            ValueError: If the model is an exported one.
        """
        if isinstance(self.model, ExportedModel):
            raise ValueError(f"{self.model.path} gives labels only: windows are blended by the Keras model.")
        windows = self.windows or Windows(512)
        for top, left, block in windows.blocks(height, width, read, self._probabilities, self.batch_size):
            yield top, left, to_labels(block)

    def _blend(self, windows: Windows, image: np.ndarray, probabilities: bool) -> np.ndarray | Segmentation:
        score, size = self._probabilities, self.batch_size
        if probabilities:
            return windows.blend(image, score, size, lambda block: block)
        if self.return_uncertainty:
            return to_segmentation(windows.blend(image, score, size, with_uncertainty))
        return windows.blend(image, score, size, to_labels)

    # === Whole images ===

    def _flush(self, images: list[np.ndarray], probabilities: bool) -> Iterator[np.ndarray | Segmentation]:
        if not images:
            return
        batch = np.stack(images)
        if probabilities:
            yield from self._probabilities(batch)
        elif self.return_uncertainty:
            yield from map(to_segmentation, with_uncertainty(self._probabilities(batch)))
        elif isinstance(self.model, ExportedModel):
            yield from self.model(batch if self.value_range is None else np.rint(batch).astype("uint8"))
        elif self.scales == (1.0,) and not self.flip:
            labels, classes = self._run(self._labels, batch), self._labels.num_classes
            yield from labels.astype(label_type(classes), copy=False)
        else:
            yield from to_labels(self._probabilities(batch))

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) -> (B, H, W, C), averaged over scales and flipping."""
        height, width = images.shape[1:3]
        total, count = np.zeros((), "float32"), 0
        for scale in self.scales:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            scaled = images if scale == 1 else resize(images, *size)
            for flipped in (False, True) if self.flip else (False,):
                scores = self._run(self._scores, scaled[:, :, ::-1] if flipped else scaled)
                scores = resize(scores[:, :, ::-1] if flipped else scores, height, width)
                total, count = total + scores if count else scores, count + 1
        return total / np.float32(count) if count > 1 else total

    def _run(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        padded = _pad(images, self.size_multiple)
        with _turn:
            return np.asarray(model.predict_on_batch(padded))[:, :height, :width]


# === Numbers ===


class Labels(keras.Model):
    """The greatest class of each pixel, found on the backend: one byte a pixel leaves it, not all the logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.num_classes = 0  # Known once the model has run.

    def call(self, images):
        logits = self.model(images, training=False)
        self.num_classes = logits.shape[-1]
        # Not every backend has 16 bits without a sign.
        return ops.cast(_kernels.labels_of(logits), "uint8" if self.num_classes <= 255 else "int32")


class Scores(keras.Model):
    """Float32 probabilities of each pixel's classes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, images):
        return ops.softmax(ops.cast(self.model(images, training=False), "float32"), axis=-1)


def _pad(images: np.ndarray, multiple: int) -> np.ndarray:
    batch, height, width, channels = images.shape
    size = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    padded = np.empty((batch, *size, channels), "float32")
    padded[:] = cycled_color(channels)
    padded[:, :height, :width] = images
    return padded
