"""The notebooks run as they are in git, in one kernel, on a table that the real sink has written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest

from tests.notebooks.kernel import NOTEBOOKS, kernel, read, run
from tests.notebooks.stripped import stripped
from tests.notebooks.table import MODULES

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
MOST_LINES = 24
WRITE = """\
from pathlib import Path
from tests.notebooks import table
await table.write(Path("../penstock-demo/20261118-000000"))
"""
AFRESH = "%reset -f"

Told = Callable[[str], str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Runs a notebook beside the table, with no names of the one before, and returns what it shows as text."""
    folder = tmp_path_factory.mktemp("clone") / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    with kernel(folder) as manager:
        run(of_cells(WRITE), manager, folder)

        def ran(name: str) -> str:
            run(of_cells(AFRESH), manager, folder)
            notebook = read(name)
            run(notebook, manager, folder)
            return shown(notebook)

        yield ran


def of_cells(*sources: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def shown(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_the_table_is_read_by_four_readers_and_audited(told: Told) -> None:
    text = told("01_read_the_table.ipynb")
    assert "140 rows, 16 dead letters: no problems" in text
    assert "{'pandas': 0, 'pyarrow': 0, 'DuckDB': 0, 'Polars': 0}" in text


def test_a_question_finds_the_modules_that_answer_it(told: Told) -> None:
    text = told("02_semantic_search.ipynb")
    assert f"of {len(MODULES)} modules" in text


def test_quality_shows_reasons_and_the_drift_of_the_second_version(told: Told) -> None:
    text = told("03_quality.ipynb")
    assert "16 dead letters, 10.26% of all records" in text
    assert "tokens" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_in_git_has_no_outputs(name: str) -> None:
    text = (NOTEBOOKS / name).read_text()
    assert text == stripped(text), "run: make format"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_what_one_learns_and_needs_and_its_cells_are_short(name: str) -> None:
    cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
    heading, _, paragraph, *_ = "".join(cells[0]["source"]).replace("\n\n", "\n\n\n").split("\n\n")
    assert heading.startswith("# ")
    assert paragraph.strip().startswith(
        "In this notebook you "
    ) and " need the table that `make demo` leaves" in " ".join(paragraph.split())
    assert [cell["id"] for cell in cells if cell["cell_type"] == "code" and len(cell["source"]) > MOST_LINES] == []


def test_outputs_counts_and_marks_of_editors_are_stripped() -> None:
    cell = {"cell_type": "code", "id": "3f2", "metadata": {"scrolled": True}, "source": "1\n", "execution_count": 7}
    ran = {"cells": [{**cell, "outputs": [{"output_type": "stream"}]}], "metadata": {"colab": 1}, "nbformat": 4}
    [left] = json.loads(stripped(json.dumps(ran)))["cells"]
    assert left == {**cell, "id": "cell-01", "metadata": {}, "source": ["1"], "execution_count": None, "outputs": []}
