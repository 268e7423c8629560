"""Tables of results as CSV files."""

import csv
from pathlib import Path
from typing import Any

from keras_exfuse._files import replace_file


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows under the first one's names, the file as a whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)
