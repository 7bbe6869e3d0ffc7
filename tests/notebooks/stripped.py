"""Notebooks as they are kept in git: without outputs, counts, and editor metadata. ``python -m
tests.notebooks.stripped`` strips all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(text: str) -> str:
    """Return a notebook's text without outputs. Cells are numbered, so that the change of one cell is one change in
    git."""
    cells = [_cell(number, cell) for number, cell in enumerate(json.loads(text)["cells"], 1)]
    notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, cell: dict[str, Any]) -> dict[str, Any]:
    source = "".join(cell["source"]).strip("\n").splitlines(keepends=True)
    kept = {"cell_type": cell["cell_type"], "id": f"cell-{number:02d}", "metadata": {}, "source": source}
    return {**kept, "execution_count": None, "outputs": []} if cell["cell_type"] == "code" else kept


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        path.write_text(stripped(path.read_text()))
