"""The notebooks run from top to bottom, in a kernel of their own, with less to train on."""

import pathlib

import nbformat
import pytest

from examples.execute_notebook import execute

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "examples" / "transfer_learning.ipynb"
SHORTER = {"train=160, val=24": "train=8, val=2", "epochs=5": "epochs=1"}

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


@pytest.mark.backend_independent  # Its parts are tested on all three; it takes long.
def test_transfer_learning(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for old, new in SHORTER.items():
        (cell,) = [cell for cell in notebook.cells if old in cell.source]
        cell.source = cell.source.replace(old, new)
    cells = execute(notebook, tmp_path).cells
    shown = [output.data for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/jpeg" in data for data in shown) == 3
    left = {"shapes", "shapes.keras", "shapes_preset", "serving"}
    assert left <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.backend_independent
def test_what_is_stored_was_run_in_order():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for cell in notebook.cells for output in cell.get("outputs", ()) if "ename" in output]
