"""``make notebooks``: the notebooks run on the demo's last table, and are written to ``build/notebooks`` as HTML."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter

from tests.notebooks.kernel import NOTEBOOKS, ROOT, kernel, read, run

UNDESCRIBED = 'alt="No description has been provided for this image"'
"""The text that nbconvert writes for an image."""

OUT = ROOT / "build" / "notebooks"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        started = time.monotonic()
        notebook = read(path.name)
        with kernel(NOTEBOOKS) as manager:
            run(notebook, manager, NOTEBOOKS)
        page = OUT / path.with_suffix(".html").name
        page.write_text(html(notebook, path))
        print(f"{page.relative_to(ROOT)}  ({time.monotonic() - started:.0f} s)")


def html(notebook: Any, path: Path) -> str:
    """A page that needs no other files, with links that lead to the other pages and the documents."""
    exporter = HTMLExporter(
        embed_images=True, mathjax_url="", require_js_url="", jquery_url="", exclude_input_prompt=True
    )
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    headings = above_images(notebook)
    text = re.sub(re.escape(UNDESCRIBED), lambda found: f'alt="Plot: {escape(next(headings))}"', str(text))
    return text.replace('.ipynb"', '.html"').replace('href="../docs/', 'href="../../docs/')


def above_images(notebook: Any) -> Iterator[str]:
    """The last heading above each image, as its text for screen readers."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines()[::-1] if line[:1] == "#"), heading)
        else:
            yield from (heading for output in cell.outputs if "image/png" in output.get("data", {}))


if __name__ == "__main__":
    main()
