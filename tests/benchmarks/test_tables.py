"""The README's tables are those of the stored results."""

import pytest

from benchmarks import tables


@pytest.mark.backend_independent
def test_every_table_of_the_readme_is_up_to_date():
    text = tables.README.read_text()
    assert tables.fill(text) == text, "run `python -m benchmarks.tables`"
