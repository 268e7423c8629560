"""Ordered background prefetch and write-behind."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self


def prefetch(function: Callable[[Any], Any], items: Iterable[Any], most: int = 2) -> Iterator[Any]:
    """`map(function, items)` that computes the next results in a thread.

    An exception of the function or of the items is raised where its result would have come.

    Args:
        function: Called with each item, in order, in one thread.
        items: Taken in the calling thread, `most` before they are needed.
        most: How many results may wait, the running one included.

    Yields:
        The results, in order.

    Example:
    >>> list(prefetch(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="keras_exfuse_prefetch")
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


class WriteBehind:
    """A queue of calls that a thread makes in their order; leaving the block waits for all of them.

    An exception of a call is raised by a later `call` or at the end of the block, and the calls after it are not made.
    If the block itself fails, the calls that were queued before are still made.

    Args:
        most: How many calls may wait, the running one included: what they hold is in memory.

    Example:
    >>> with WriteBehind() as queue:
    ...     queue.call(print, "written")
    written
    """

    def __init__(self, most: int = 2):
        self._most = most
        self._waiting: deque[Future] = deque()
        self._failed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="keras_exfuse_write_behind")

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Queue a call, and return at once unless too many wait."""
        self._waiting.append(self._executor.submit(self._do, function, arguments))
        while len(self._waiting) > self._most:
            self._waiting.popleft().result()

    def _do(self, function, arguments):
        if self._failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._executor.shutdown()
        if kind is None:
            for each in self._waiting:
                each.result()
