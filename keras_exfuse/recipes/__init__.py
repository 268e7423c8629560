"""Training recipes by name: a TOML file each, whose comments say how to run it and what to expect."""

import difflib
import os
from pathlib import Path

DIRECTORY = Path(__file__).parent


def recipe_names() -> dict[str, str]:
    """Name of each recipe in the package, and the first line of its comments.

    Example:
    >>> print(recipe_names()["camvid_lite0"])
    EfficientNet-Lite0 on CamVid in VOC layout, 11 classes.
    """
    files = sorted(DIRECTORY.glob("*.toml"))
    return {file.stem: file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for file in files}


def find_recipe(recipe: str | os.PathLike[str]) -> Path:
    """The file of a recipe.

    Args:
        recipe: The name of a recipe in the package, or the path of a .toml file.

    Returns:
        Its path.

    Raises:
        ValueError: If there is no such recipe; the text lists the names.
    """
    text, names = os.fspath(recipe), list(recipe_names())
    path = DIRECTORY / f"{text}.toml" if text in names else Path(text)
    if path.is_file():
        return path
    near = difflib.get_close_matches(text, names, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"There is no recipe {text!r}: expected the path of a .toml file, or one of {', '.join(names)}.{hint}"
    )
