"""Runs a notebook from top to bottom and stores what it shows, images as JPEG and without warnings.

pip install '.[tensorflow,demo]' ipykernel nbclient
python examples/execute_notebook.py examples/transfer_learning.ipynb
"""

import argparse
import tempfile
from pathlib import Path

import nbclient
import nbformat


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run all cells in a folder; what they write on stderr is dropped, and so is the larger form of an image."""
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        cell.metadata = {}  # Times of the run: another at each.
        for output in cell.outputs:
            if "image/jpeg" in output.get("data", {}):
                del output["data"]["image/png"]
    return notebook


def main() -> None:
    """Parse, run in a temporary folder, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", type=Path, help="it is replaced, if all of it runs")
    path = parser.parse_args().notebook
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(nbformat.read(path, as_version=4), Path(folder))
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
