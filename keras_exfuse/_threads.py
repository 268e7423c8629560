"""Work in a thread beside the main one, in order and with a bound on what waits."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self


def ahead(function: Callable[[Any], Any], items: Iterable[Any], most: int = 2) -> Iterator[Any]:
    """`map(function, items)`, in which a thread works on what will be asked for next.

    An exception of the function or of the items is raised where its result would have come.

    Args:
        function: Called with each item, in order, in one thread.
        items: Taken in the calling thread, `most` before they are needed.
        most: How many results may wait, the one in work included.

    Yields:
        The results, in order.

    Example:
    >>> list(ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="keras_exfuse_ahead")
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


class Behind:
    """A thread that does calls in their order while the main one goes on; leaving the block waits for all of them.

    An exception of a call is raised by a later `call` or at the end of the block, and what was to come after it is not
    done. If the block itself fails, what was called before is still done.

    Args:
        most: How many calls may wait, the one in work included: what they hold is in memory.

    Example:
    >>> with Behind() as behind:
    ...     behind.call(print, "written")
    written
    """

    def __init__(self, most: int = 2):
        self._most = most
        self._waiting: deque[Future] = deque()
        self._failed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="keras_exfuse_behind")

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Do this after what was called before, and return at once unless too much waits."""
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
