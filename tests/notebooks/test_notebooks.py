"""The notebooks run as they are in git, in one kernel, on a table that the real sink has written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.docs.test_documents import anchors
from tests.notebooks.kernel import NOTEBOOKS, kernel, read, run
from tests.notebooks.stripped import stripped
from tests.notebooks.table import MODULES

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
MOST_LINES = 24
BEGIN = """\
import gc
gc.freeze()  # or each of the looks for garbage of a reset would pass through all packages
%reset -f
%cd -q {folder}
"""
WRITE = """\
from pathlib import Path
from tests.notebooks import table
await table.write(Path("../penstock-demo/20261118-000000"), days={days}, bad={bad})
"""

Told = Callable[[str], str]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One kernel for all tests, so that packages are imported once."""
    with kernel(tmp_path_factory.mktemp("start")) as running:
        yield running


@pytest.fixture(scope="module")
def told(manager: KernelManager, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Runs a notebook on a table of two days, each with another version of the model, and with dead letters."""
    return clone(manager, tmp_path_factory.mktemp("clone"), days=2, bad=8)


@pytest.fixture(scope="module")
def told_of_the_plain_demo(manager: KernelManager, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Runs a notebook on a table like that of ``make demo``: of one day, without dead letters."""
    return clone(manager, tmp_path_factory.mktemp("plain"), days=1, bad=0)


def clone(manager: KernelManager, root: Path, *, days: int, bad: int) -> Told:
    """Notebooks beside a table. The function runs one, without the names of earlier ones, and returns what it shows."""
    folder = root / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    run(of_cells(BEGIN.format(folder=folder), WRITE.format(days=days, bad=bad)), manager, folder)

    def ran(name: str) -> str:
        run(of_cells(BEGIN.format(folder=folder)), manager, folder)
        notebook = read(name)
        run(notebook, manager, folder)
        return shown(notebook)

    return ran


def of_cells(*sources: str) -> Any:
    import nbformat

    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def shown(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_the_table_is_read_by_four_readers_and_audited(told: Told) -> None:
    text = told("01_read_the_table.ipynb")
    assert " rows, 16 dead letters: no problems" in text
    assert "{'pandas': 0, 'pyarrow': 0, 'DuckDB': 0, 'Polars': 0}" in text


def test_search_finds_neighbours_and_near_duplicates(told: Told) -> None:
    text = told("02_semantic_search.ipynb")
    assert f"docstrings of {len(MODULES)} modules, 384 numbers each" in text
    assert re.search(r"(?m)^json\S* .* says: ", text)
    [(pairs, same)] = re.findall(r"(\d+) pairs above 0.9, (\d+) of them word for word", text)
    assert int(pairs) > int(same) > 0


def test_quality_counts_dead_letters_and_sees_the_version_that_cuts_texts(told: Told) -> None:
    text = told("03_quality.ipynb")
    assert "16 dead letters, " in text
    assert "payload is JSON of type list, not an object" in text
    assert re.search(r"problems +\[\]", text)
    assert re.search(r"compared: model_version, \S+ \(\d+ rows\) with .*short \(\d+ rows\)", text)
    assert re.search(r"(?m)^tokens +0.\d+ .* True$", text)
    assert "largest KS: 0.000" in text


def test_quality_of_the_plain_demo_has_no_dead_letters_and_no_drift(told_of_the_plain_demo: Told) -> None:
    text = told_of_the_plain_demo("03_quality.ipynb")
    assert "0 dead letters, 0.00% of all records" in text
    assert "compared: halves, first half (" in text
    assert "True" not in text.partition("compared:")[2]


def of_quality(cell: str, **names: Any) -> dict[str, Any]:
    """The names that a cell of the notebook on quality leaves, when it runs with these."""
    [source] = [each["source"] for each in read("03_quality.ipynb").cells if each["id"] == cell]
    exec(source, names)
    return names


@pytest.mark.parametrize(
    ("versions", "compared"), [("aabba", "ab"), ("abc", "bc"), ("abcb", "bc"), ("aab", "ab"), ("bca", "ca")]
)
def test_drift_compares_two_different_versions_after_a_roll_back_too(versions: str, compared: str) -> None:
    rows = pd.DataFrame({"model_version": list(versions), "dt": "2026-11-18"})
    found = of_quality("cell-21", rows=rows, pd=pd, np=np)
    assert (found["reference"], found["current"]) == tuple(compared)
    assert not (found["is_reference"] & found["is_current"]).any()


def test_quality_reads_dead_letters_by_url(tmp_path: Path) -> None:
    """On S3 it is the same call of pyarrow; a path of ``pathlib`` would find nothing there."""
    (folder := tmp_path / "dead-letter" / "dt=2026-11-18").mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"record_id": "r"}\n{"record_id": "s"}\n')
    for url in (str(folder.parent), folder.parent.as_uri()):
        assert len(of_quality("cell-13", LETTERS=url, Path=Path, pd=pd, rows=[1])["letters"]) == 2
    assert len(of_quality("cell-13", LETTERS=str(tmp_path / "none"), Path=Path, pd=pd, rows=[1])["letters"]) == 0


def test_quality_without_metrics_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = of_quality("cell-08", TABLE=str(tmp_path / "enriched"))
    assert "no metrics of workers in" in capsys.readouterr().out
    for cell in ("cell-09", "cell-11"):
        of_quality(cell, answers=found["answers"], metrics=found["metrics"], pd=pd, np=np)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_in_git_has_no_outputs(name: str) -> None:
    text = (NOTEBOOKS / name).read_text()
    assert text == stripped(text), "run: make format"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_what_one_learns_and_needs_and_its_cells_are_short(name: str) -> None:
    cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
    heading, paragraph = (" ".join(part.split()) for part in "".join(cells[0]["source"]).split("\n\n")[:2])
    assert heading.startswith("# ")
    assert paragraph.startswith("In this notebook you ")
    assert " need the table that `make demo` leaves" in paragraph
    assert [cell["id"] for cell in cells if cell["cell_type"] == "code" and len(cell["source"]) > MOST_LINES] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_to_a_file_and_a_heading_that_are_there(name: str) -> None:
    cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#([^)\s]*))?\)", text)
    assert found
    for target, anchor in found:
        assert (NOTEBOOKS / target).is_file(), target
        assert not anchor or anchor in anchors(NOTEBOOKS / target), (target, anchor)


def test_outputs_counts_and_marks_of_editors_are_stripped() -> None:
    cell = {"cell_type": "code", "id": "3f2", "metadata": {"scrolled": True}, "source": "1\n", "execution_count": 7}
    ran = {"cells": [{**cell, "outputs": [{"output_type": "stream"}]}], "metadata": {"colab": 1}, "nbformat": 4}
    [left] = json.loads(stripped(json.dumps(ran)))["cells"]
    assert left == {**cell, "id": "cell-01", "metadata": {}, "source": ["1"], "execution_count": None, "outputs": []}
