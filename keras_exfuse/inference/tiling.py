"""Large images, window by window, in bounded memory."""

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np


class Read(Protocol):
    """Gives a part of an image: from its first row and column, and its size, to its values (rows, columns, C)."""

    def __call__(self, top: int, left: int, rows: int, columns: int) -> np.ndarray: ...


class Windows:
    """Cuts an image into overlapping windows and blends their scores.

    Each window counts most in its middle and little at its edge, where the model sees least around a pixel.
    What no later window touches is finished and let go, so that the scores of the rows in which two rows of windows
    overlap are all that is held: for labels, memory grows with the image's width, not with its area.

    Args:
        window: Side of a window in pixels.
        stride: Distance between windows in pixels, 1 to `window`; half the window by default.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, window: int, stride: int | None = None):
        stride = max(window // 2, 1) if stride is None else stride
        if window < 1 or not 1 <= stride <= window:
            raise ValueError(
                f"Windows need 1 <= stride <= window, got window={window}, stride={stride}; with a larger stride, "
                "pixels between the windows would be left out."
            )
        self.window, self.stride = window, stride

    def smaller_than(self, image: np.ndarray) -> bool:
        """Whether the image does not fit into one window."""
        return max(image.shape[:2]) > self.window

    def blend(
        self,
        image: np.ndarray,
        score: Callable[[np.ndarray], np.ndarray],
        batch_size: int,
        finish: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Score an image (H, W, C).

        Args:
            image: Its values, 0..255.
            score: From images (B, h, w, C) to probabilities (B, h, w, classes).
            batch_size: Windows that are scored together.
            finish: From probabilities (h, w, classes) to what is kept of them, an array whose first axes are (h, w).

        Returns:
            What is kept, of the whole image.
        """
        height, width = image.shape[:2]
        result = None

        def read(top: int, left: int, rows: int, columns: int) -> np.ndarray:
            return image[top : top + rows, left : left + columns]

        for top, left, block in self.blocks(height, width, read, score, batch_size):
            kept = finish(block)
            if result is None:  # Its type and shape are known now.
                result = np.empty((height, width, *kept.shape[2:]), kept.dtype)
            result[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
        assert result is not None
        return result

    def blocks(
        self,
        height: int,
        width: int,
        read: Read,
        score: Callable[[np.ndarray], np.ndarray],
        batch_size: int,
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Score an image that need not be in memory, from the top to the bottom, from the left to the right.

        Args:
            height: Its height in pixels.
            width: Its width in pixels.
            read: From a first row and column and the numbers of both to these values (rows, columns, C).
            score: As in `blend`.
            batch_size: As in `blend`.

        Yields:
            The first row and column of a block that is finished, and its probabilities (h, w, classes).
        """
        tall, wide = min(self.window, height), min(self.window, width)
        weight = np.outer(_tent(tall), _tent(wide)).astype("float32")[..., None]
        lefts, tops = self._starts(width), self._starts(height)
        row_steps, column_steps = np.diff([*tops, height]), np.diff([*lefts, width])
        # The weights of all windows together: a product of what the rows and what the columns add up to.
        row_weights, column_weights = _add_up(_tent(tall), tops, height), _add_up(_tent(wide), lefts, width)
        carried = np.zeros(0)  # Made once the number of classes is known.
        for top, down in zip(tops, row_steps, strict=True):
            scores = self._row(
                functools.partial(read, top, rows=tall, columns=wide), lefts, score, batch_size
            )
            sums = np.zeros(0)  # Of the windows that reach into the columns at hand.
            for left, right in zip(lefts, column_steps, strict=True):
                each = next(scores)
                if not carried.size:
                    kept = max(tall - row_steps[:-1].min(initial=tall), 0)
                    carried = np.zeros((kept, width, each.shape[-1]), "float32")
                if not sums.size:
                    sums = np.zeros((tall, wide, each.shape[-1]), "float32")
                sums += weight * each
                # Columns left of the next window are finished for this row of windows ...
                done, columns = sums[:, :right], slice(left, left + right)
                done[: len(carried)] += carried[:, columns]
                # ... and rows above the next row of windows for good; the others wait for it.
                both = np.outer(row_weights[top : top + down], column_weights[columns])
                yield top, left, done[:down] / both[..., None]
                waiting = done[down:]
                carried[: len(waiting), columns] = waiting
                carried[len(waiting) :, columns] = 0
                _move_left(sums, right)

    def _row(self, read, lefts, score, batch_size):
        """The scores of one row of windows, one after another."""
        for first in range(0, len(lefts), batch_size):
            yield from score(np.stack([read(left) for left in lefts[first : first + batch_size]]))

    def _starts(self, length: int) -> list[int]:
        """Where windows begin: evenly spread, at most a stride apart, the last one ends at the edge."""
        last = max(length - self.window, 0)
        return np.linspace(0, last, -(-last // self.stride) + 1).astype(int).tolist()


def _tent(length: int) -> np.ndarray:
    """Rises to 1 in the middle, never 0: every pixel is somebody's."""
    places = np.arange(length) + 0.5
    return np.minimum(places, length - places) / (length / 2)


def _add_up(weights: np.ndarray, starts: list[int], length: int) -> np.ndarray:
    """What the weights of all windows along one axis are at each pixel together."""
    total = np.zeros(length, "float32")
    for start in starts:
        total[start : start + len(weights)] += weights
    return total


def _move_left(sums: np.ndarray, columns: int) -> None:
    """Shifts the columns that are not finished to the left edge, and clears the rest."""
    kept = sums.shape[1] - columns
    sums[:, :kept] = sums[:, columns:].copy()
    sums[:, kept:] = 0
