"""Checks of constructor arguments that several layers share."""

INITS = ("identity", "random")


def check_positive(name: str, value: int) -> int:
    """Return a positive int unchanged, or raise a `ValueError` that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be a positive int. Received: {name}={value!r}")
    return value


def check_odd(name: str, value: int) -> int:
    """Return an odd positive int unchanged, or raise a `ValueError` that proposes the nearest ones."""
    check_positive(name, value)
    if value % 2 == 0:
        raise ValueError(
            f"`{name}` must be odd, so that the window has a centre pixel. "
            f"Received: {name}={value}. Use {value - 1} or {value + 1}."
        )
    return value


def check_init(init: str) -> str:
    """Return a known initialization of a branch unchanged, or raise a `ValueError` that lists the known ones."""
    if init not in INITS:
        raise ValueError(f"`init` must be one of {INITS}. Received: init={init!r}")
    return init
