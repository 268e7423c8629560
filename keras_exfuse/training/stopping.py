"""How a run stops when it is asked to, by Ctrl-C or by SIGTERM: after its step, with its state stored."""

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

# What Python does with them where nobody has set anything else.
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and has, after a step; its state is stored.

    Args:
        number: The signal.
        text: Where it stopped, and what to do to go on.

    Attributes:
        exit_code: What the process should exit with: 130 after Ctrl-C, 143 after SIGTERM, as shells have it.
    """

    def __init__(self, number: int, text: str):
        super().__init__(text)
        self.exit_code = 128 + number


class StopSignals:
    """Inside the block, takes note of Ctrl-C and SIGTERM instead of ending the process in the middle of a step.

    An exception in the middle of native code is now and then swallowed there, and has crashed JAX while it compiled.
    A second Ctrl-C interrupts at once all the same. A second SIGTERM does not: some schedulers send it to a process and
    to its group. Left alone are signals for which the program has a handler of its own, and all of them in a thread
    that is not the main one, where Python cannot handle any.

    Args:
        told: Called with the signal's name when it comes, from inside the handler.

    Attributes:
        asked: The signal that came, or None.
    """

    def __init__(self, told: Sequence[Callable[[str], Any]] = ()):
        self.told = told
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, default in _DEFAULTS.items():
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take_note(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.asked is not None:
            raise KeyboardInterrupt
        self.asked = number
        for each in self.told:
            each(signal.Signals(number).name)
