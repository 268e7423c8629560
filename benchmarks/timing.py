"""What every timing has in common: candidates in turns, and the steps of a training."""

import time
from collections.abc import Callable

import keras


def seconds_in_turns(
    functions: dict[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Call functions one after another, round after round, so that what else the machine does hits all alike.

    Args:
        functions: They return when their result is there.
        rounds: How many calls of each are timed.
        warm_up: Calls of each before, which compile.

    Returns:
        Seconds of each call, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(-warm_up, rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


class StepTimer(keras.callbacks.Callback):
    """Seconds of every training step."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.begin)
