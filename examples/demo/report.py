"""The demo's output: a status line while it works, and a table at the end."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.batching.utilization import described

PREVIEW_ROWS = 8
READ_COLUMNS = ("name", "embedding")
PIPED_COLUMNS = 1000


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The demo's figures, as ``--json`` prints them. ``records_per_s`` counts from the first admitted record to the
    last durable one.

    ``capacity``: shares of the replicas' time, see :mod:`pipeline.batching.utilization`.
    """

    records: int
    rows: int
    distinct_record_ids: int
    dead_letters: int
    shards: int
    batches: int
    mean_batch: float
    records_per_s: float
    took_s: float
    first_record_s: float
    capacity: dict[str, float]
    out: str


class Show(Protocol):
    """Shows the current activity, with totals by name (see ``/stats``)."""

    def __call__(self, what: str, /, **totals: float) -> None:
        """Show the current activity and the totals."""
        ...


@contextlib.contextmanager
def progress(console: Console, records: int) -> Iterator[Show]:
    """Show a live line on a terminal; elsewhere print one line for each new activity."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = bar.add_task("", total=records, figures="")
    said = ""
    began: list[float] = []

    def show(what: str, /, **totals: float) -> None:
        nonlocal said
        if what != said and not console.is_terminal:
            console.print(f"{what} …")
        said = what
        if totals.get("enriched") and not began:
            began.append(time.monotonic())
        bar.update(task, description=what, completed=totals.get("checkpointed", 0), figures=_figures(totals, began))

    with bar:
        yield show


def _figures(totals: dict[str, float], began: list[float]) -> str:
    if "enriched" not in totals:
        return f"{totals['records_in']:.0f} in" if totals else ""
    batches = totals["batches"]
    rate = totals["settled"] / max(time.monotonic() - began[0], 0.5) if began else 0.0
    return (
        f"{totals['records_in']:.0f} in · {totals['enriched']:.0f} enriched · {totals['settled']:.0f} settled · "
        f"{totals['checkpointed']:.0f} checkpointed · batch {totals['settled'] / batches if batches else 0:.1f} · "
        f"{rate:.0f}/s"
    )


def report(console: Console, result: DemoResult, table: Path) -> None:
    """Print a preview of the table, the figures, and the command that reads the table."""
    import pandas as pd

    rows = pd.read_parquet(table)
    preview = Table(title=f"{PREVIEW_ROWS} of {result.rows:,} rows", title_justify="left")
    for name in ("module", "name", "text", "embedding"):
        preview.add_column(name, no_wrap=True, overflow="ellipsis", max_width=36)
    for row in rows.sample(min(PREVIEW_ROWS, len(rows)), random_state=0).to_dict("records"):
        vector = ", ".join(f"{value:+.3f}" for value in row["embedding"][:3])
        text = " ".join(row["text"].split())
        preview.add_row(row["module"], row["name"], text, f"{vector}, … ({len(row['embedding'])})")
    if not console.is_terminal:  # without borders: rich assumes 80 columns there
        console.width = max(console.width, PIPED_COLUMNS)
    console.print(preview)
    console.print(_figures_table(result))
    console.print("\nRead it:\n", style="bold")
    console.print(f"  {reading(table)}\n", soft_wrap=True, markup=False)


def reading(table: Path) -> str:
    """Return a shell command that shows the table, with the Python that runs this: it has pandas.

    pandas prints as many columns as fit into the terminal, so the command names those of interest.
    """
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    read = f"import pandas as pd; print(pd.read_parquet({str(table)!r})[{list(READ_COLUMNS)!r}])"
    return shlex.join([python, "-c", read])


def _figures_table(result: DemoResult) -> Table:
    figures = Table(show_header=False, box=None)
    figures.add_row("records", f"{result.records:,} on {result.shards} shards")
    rows = f"{result.rows:,}, {result.distinct_record_ids:,} distinct; {result.dead_letters} dead letters"
    figures.add_row("rows", rows)
    figures.add_row("batches", f"{result.batches:,} of {result.mean_batch:g} records on average")
    figures.add_row("time", f"{result.took_s:g} s in all, first record after {result.first_record_s:g} s")
    figures.add_row("rate", f"{result.records_per_s:g} records/s")
    figures.add_row("replicas' time", described(result.capacity))
    figures.add_row("where", f"{result.out}")
    return figures
