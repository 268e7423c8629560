"""Settings from files and command lines: TOML, checked against the fields of a dataclass."""

import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Any


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.

    Returns:
        Its values.

    Raises:
        ValueError: If it is not TOML; the text says where.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from error


def write_toml(values: dict[str, Any]) -> str:
    """Plain values as TOML; `None`, which TOML does not know, is left out.

    Args:
        values: Strings, numbers, truth values, and lists of them.

    Returns:
        The text.

    Example:
    >>> print(write_toml({"data": "voc", "scale": (0.5, 2.0), "flip": True, "steps": None}))
    data = "voc"
    scale = [0.5, 2.0]
    flip = true
    """
    # JSON writes these values as TOML does; it escapes a little more, which TOML reads.
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value is not None
    ]
    return "\n".join(lines)


def parse_assignment(text: str) -> tuple[str, Any]:
    """A setting of the command line, NAME=VALUE, its value written as in TOML.

    A word without quotes is a string, and `none` is `None`.

    Args:
        text: For example `flip=false`, `scale=[0.5, 2]`, `dtype=mixed_bfloat16`.

    Returns:
        The name and the value.

    Raises:
        ValueError: If there is no equals sign.

    Example:
    >>> parse_assignment("scale=[0.5, 2]"), parse_assignment("dtype=mixed_bfloat16")
    (('scale', [0.5, 2]), ('dtype', 'mixed_bfloat16'))
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError(f"--set: expected NAME=VALUE, for example flip=false, got {text!r}.")
    if value.lower() == "none":
        return name.replace("-", "_"), None
    try:
        return name.replace("-", "_"), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.replace("-", "_"), value


def parse_interval(text: str) -> tuple[float | None, int | None]:
    """How often something is done, as "10 minutes" or "500 steps".

    Args:
        text: A number and its unit.

    Returns:
        Seconds and steps, one of which is None.

    Raises:
        ValueError: If it is neither, or not greater than 0.

    Example:
    >>> parse_interval("1.5 minutes"), parse_interval("500 steps")
    ((90.0, None), (None, 500))
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(minutes?|min|steps?)\s*", text)
    number, steps = (float(found[1]), found[2].startswith("step")) if found else (0.0, False)
    if not number or (steps and number != int(number)):
        raise ValueError(f'expected "N minutes" or "N steps" with N greater than 0, got {text!r}.')
    return (None, int(number)) if steps else (60 * number, None)


def check_values(kind: type, values: dict[str, Any], source: str) -> dict[str, Any]:
    """Check names and types of settings against the fields of a dataclass.

    Args:
        kind: The dataclass.
        values: Settings by name.
        source: Where they come from, for messages.

    Returns:
        The same with lists as tuples and whole numbers as floats where that is the field's type.

    Raises:
        ValueError: If a name is unknown (the text has the nearest one), or a value is of another type.
    """
    types_by_name = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    checked = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else f" The settings are {', '.join(known)}."
            raise ValueError(f"{source}: unknown setting {name!r}.{hint}")
        try:
            checked[name] = _as_type(value, types_by_name[name])
        except TypeError:
            raise ValueError(
                f"{source}: `{name}` must be {_in_words(types_by_name[name])}, got {value!r}."
            ) from None
    return checked


def _as_type(value: Any, wanted: Any) -> Any:
    """The value in a type, or a TypeError."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        for each in arguments:
            try:
                return _as_type(value, each)
            except TypeError:
                continue
    elif origin is typing.Literal:
        if value in arguments and not isinstance(value, bool):
            return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            if arguments[-1] is Ellipsis:
                return tuple(_as_type(each, arguments[0]) for each in value)
            if len(value) == len(arguments):
                return tuple(_as_type(each, kind) for each, kind in zip(value, arguments, strict=True))
    elif wanted is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    raise TypeError


def _in_words(wanted: Any) -> str:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_in_words(each) for each in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(each) for each in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each {_in_words(arguments[0])}"
        return f"a list of {len(arguments)}, each {_in_words(arguments[0])}"
    words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(wanted, "none")
