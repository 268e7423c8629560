"""Large pictures, window by window, in bounded memory."""

from collections.abc import Callable

import numpy as np


class Windows:
    """Cuts a picture into overlapping windows and blends their scores.

    Each window counts most in its middle and little at its edge, where the model sees least around a pixel.
    Rows that no later window touches are finished and let go, so that the scores of a band of one window's
    height are all that is held: for labels, memory grows with the picture's width, not with its area.

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

    def smaller_than(self, picture: np.ndarray) -> bool:
        """Whether the picture does not fit into one window."""
        return max(picture.shape[:2]) > self.window

    def blend(
        self,
        picture: np.ndarray,
        score: Callable[[np.ndarray], np.ndarray],
        batch_size: int,
        probabilities: bool,
    ) -> np.ndarray:
        """Score a picture (H, W, 3).

        Args:
            picture: RGB 0..255.
            score: From pictures (B, h, w, 3) to probabilities (B, h, w, C).
            batch_size: Windows that are scored together.
            probabilities: Whether to return probabilities instead of labels.

        Returns:
            Labels (H, W), or probabilities (H, W, C).
        """
        from keras_exfuse.inference.predictor import to_labels

        height, width = picture.shape[:2]
        tall, wide = min(self.window, height), min(self.window, width)
        weight = np.outer(_tent(tall), _tent(wide)).astype("float32")[..., None]
        lefts, tops = self._starts(width), self._starts(height)
        # The weights of all windows together: a product of what the rows and what the columns add up to.
        row_weights, column_weights = _add_up(_tent(tall), tops, height), _add_up(_tent(wide), lefts, width)
        result, total = np.zeros(0), np.zeros(0)  # Made once the number of classes is known.
        for row, top in enumerate(tops):
            strips = [picture[top : top + tall, left : left + wide] for left in lefts]
            for first in range(0, len(lefts), batch_size):
                scores = score(np.stack(strips[first : first + batch_size]))
                if not total.size:
                    total = np.zeros((tall, width, scores.shape[-1]), "float32")
                    kind = (scores.shape[-1],) if probabilities else ()
                    dtype = "float32" if probabilities else to_labels(scores[:1, :1, :1]).dtype
                    result = np.empty((height, width, *kind), dtype)
                for left, each in zip(lefts[first : first + batch_size], scores, strict=True):
                    total[:, left : left + wide] += weight * each
            # Rows above the next band are finished.
            done = (tops[row + 1] if row + 1 < len(tops) else height) - top
            total[:done] /= np.outer(row_weights[top : top + done], column_weights)[..., None]
            result[top : top + done] = total[:done] if probabilities else to_labels(total[:done])
            _move_up(total, done)
        return result

    def _starts(self, length: int) -> list[int]:
        """Where windows begin; the last one ends at the edge."""
        last = max(length - self.window, 0)
        return [*range(0, last, self.stride), last]


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


def _move_up(band: np.ndarray, rows: int) -> None:
    """Shifts the rows that are not finished to the top, and clears the rest."""
    kept = len(band) - rows
    band[:kept] = band[rows:]
    band[kept:] = 0
