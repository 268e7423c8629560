"""Checks of constructor arguments that several layers share."""

import operator

INITS = ("identity", "random")


def check_positive(name: str, value: int) -> int:
    """Return a positive int, whatever kind of integer it comes as, or raise a `ValueError` that names the argument."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{name}` must be a positive int. Received: {name}={value!r}")
    return number


def copy_initializer(initializer):
    """A copy of a Keras initializer, which draws other numbers; a function as it is."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer


def check_odd(name: str, value: int) -> int:
    """Return an odd positive int, or raise a `ValueError` that proposes the nearest ones."""
    value = check_positive(name, value)
    if value % 2 == 0:
        raise ValueError(
            f"`{name}` must be odd, so that the window has a center pixel. "
            f"Received: {name}={value}. Use {value - 1} or {value + 1}."
        )
    return value


def check_init(init: str) -> str:
    """Return a known initialization of a branch unchanged, or raise a `ValueError` that lists the known ones."""
    if init not in INITS:
        raise ValueError(f"`init` must be one of {INITS}. Received: init={init!r}")
    return init
