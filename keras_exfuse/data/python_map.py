"""Python functions inside `tf.data`: `Dataset.map` over one, and a clean end of the process."""

import atexit
import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_exfuse._optional import require

_QUIET_SECONDS, _LONGEST_WAIT = 0.1, 10.0


class _Calls:
    """Counts the calls that are running, and refuses new ones when the interpreter ends.

    Pipelines read ahead in threads of TensorFlow's own. When the interpreter ends while one of them is
    waiting to call Python, that thread is ended, and TensorFlow waits for it for ever. So before that, new
    calls fail at once, which fills the buffers, and the end waits until no call has come for a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running, self._last, self._ending = 0, 0.0, False

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            self._running += 1
            self._last = time.monotonic()
        try:
            if self._ending:
                raise StopIteration  # The end of the data, to TensorFlow: not worth a traceback in its log.
            return function(*arguments)
        finally:
            with self._lock:
                self._running -= 1
                self._last = time.monotonic()

    def end(self) -> None:
        if not self._last:  # Nothing was ever read.
            return
        self._ending = True
        start = time.monotonic()
        while time.monotonic() - start < _LONGEST_WAIT:
            time.sleep(_QUIET_SECONDS / 4)
            with self._lock:
                if not self._running and time.monotonic() - self._last > _QUIET_SECONDS:
                    return


_calls = _Calls()
atexit.register(_calls.end)


def python_call(function: Callable[..., Any], arguments: Sequence[Any], types: Sequence[Any]) -> Any:
    """In graph: call a Python function with numpy arrays.

    OpenCV, pillow and the reading of files let go of Python's global lock while they work, so several
    threads of a pipeline do run at once.

    Args:
        function: Gets numpy scalars and arrays; gives as many arrays as there are types.
        arguments: Tensors.
        types: TensorFlow's types of the results.

    Returns:
        A list of tensors of unknown shapes.
    """
    tf = require("tensorflow", extra="data")
    return tf.numpy_function(lambda *values: _calls.run(function, values), list(arguments), list(types))


def aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """An array of uint8 with values to be set, which TensorFlow takes over without a copy."""
    count, boundary = math.prod(shape), 64
    memory = np.empty(count + boundary, np.uint8)
    start = -memory.ctypes.data % boundary
    return memory[start : start + count].reshape(shape)


@functools.cache
def one_thread_for_opencv() -> None:
    """Let OpenCV work in the thread that calls it: a pipeline has threads enough, and more hold each other up.

    This is a setting of the whole process, as other libraries for augmentation make it, too.
    """
    require("cv2", extra="data").setNumThreads(0)
