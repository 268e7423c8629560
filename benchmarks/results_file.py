"""Tables of results as CSV files."""

import csv
from pathlib import Path
from typing import Any

from keras_exfuse._files import replace_file


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if it is not there yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows under the first one's names, the file as a whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)
