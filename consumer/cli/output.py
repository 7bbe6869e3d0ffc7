"""Output of commands: one JSON object with ``--json``, tables on a terminal, whole lines when piped.

Results go to stdout; progress goes to stderr. Text from a stream, a bucket or a table is escaped before it is printed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import click

UNKNOWN = "unknown"
"""The text of None in a table. JSON has null."""

PIPED_EVERY_S = 10.0
"""Seconds between two lines of progress if stderr is not a terminal."""


class Advance(Protocol):
    """Reports to a progress bar how much is done."""

    def __call__(self, done: float = 1, *, total: float | None = None, before: bool = False) -> None:
        """``done`` more units are done; ``total`` replaces the expected total. ``before``: they were done by an earlier
        run, and say nothing of the time left."""


def emit(schema: str, said: Mapping[str, Any], version: int = 1) -> None:
    """Print one JSON object on one line, its first key ``schema``: ``penstock.<schema>/<version>``.

    A later version may add keys to a schema without a new number; a key that changes or goes away takes a new number.
    """
    import json

    click.echo(json.dumps({"schema": f"penstock.{schema}/{version}", **said}, ensure_ascii=False, allow_nan=False))


def joined(said: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what both say.

    :raises ValueError: if both have a key: one of the two would be lost.
    """
    if both := sorted(said.keys() & more.keys()):
        raise ValueError(f"said twice: {', '.join(both)}")
    return {**said, **more}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows under column names. ``right`` names columns of numbers, which a terminal aligns to the right.

    On a terminal: a table as wide as the screen, its cells wrapped between words; on a screen that is too narrow for
    that, the cells of a row one below the other. When piped: a line of names, then a line a row, cells separated by
    tabs, nothing cut. None is printed as ``unknown``.
    """
    if sys.stdout.isatty():
        _on_terminal(columns, [[cell(value) for value in row] for row in rows], right)
        return
    click.echo("\t".join(map(cell, columns)))
    for row in rows:
        click.echo("\t".join(cell(value) for value in row))


def _on_terminal(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console

    from consumer.cli.columns import fitted, vertical

    console = Console(highlight=False)
    if fitted(columns, rows, console.width) is None:
        for text in vertical(columns, rows):
            click.echo(text)
        return
    console.print(drawn(columns, rows, console.width, right=right))


def drawn(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    width: int,
    *,
    right: Sequence[str] = (),
    one_line: bool = False,
) -> Any:
    """The table as rich draws it, for a terminal or a live screen of this width.

    ``one_line``: long text is cut, not wrapped; also if the words do not fit. The first column is cut last.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from consumer.cli.columns import fitted

    cells = [[cell(value) for value in row] for row in rows]
    widths = None if one_line else fitted(columns, cells, width)
    overflow: Any = "ellipsis" if widths is None else "fold"
    drawing = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        exact = widths[place] if widths is not None else None
        drawing.add_column(name, justify="right" if name in right else "left", overflow=overflow, width=exact)
    for row in cells:
        drawing.add_row(*(Text(text, no_wrap=widths is None, overflow=overflow) for text in row))
    if widths is None and cells:
        drawing.columns[0].min_width = min(width // 2, max(len(row[0]) for row in cells))
    return drawing


def cell(value: object) -> str:
    """One cell on one line: ``unknown`` for None, numbers with thousands separators, other text escaped."""
    from pipeline.escape import as_text

    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return as_text(value)


def line(text: str) -> None:
    """Print one line on stdout, escaped."""
    from pipeline.escape import shown

    click.echo(shown(text))


def note(text: str) -> None:
    """Print one line on stderr, escaped: what the command is doing."""
    from pipeline.escape import shown

    click.echo(shown(text), err=True)


def estimate(found: Mapping[str, Any]) -> list[str]:
    """The lines of a plan about its records, its time and the cost of a day; ``found`` has them as for ``--json``."""
    from pipeline.errors import counted

    records, size = found["records_about"], found["bytes_about"]
    amount = UNKNOWN if records is None else f"about {records:,}"
    bytes_ = "" if size is None else f" ({counted(size, 'byte')})"
    took = f"{seconds(found['takes_s'])} ({found['time_from']})"
    about = "" if found["takes_s"] is None else "about "
    return [f"records: {amount}{bytes_}", f"time: {about}{took}", f"a day: {found['a_day']}"]


def seconds(value: float | None) -> str:
    """A duration in usual units: ``850 ms``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if value is None:
        return UNKNOWN
    if value < 1:
        return f"{value * 1000:.0f} ms"
    whole = round(value)
    for unit, below, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {below}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


@contextlib.contextmanager
def progress(
    what: str, total: float | None = None, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Advance]:
    """Show the progress of long work on stderr: a bar with the time left on a terminal, lines when piped."""
    if sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _Lines(what, total, clock)


@contextlib.contextmanager
def _bar(what: str, total: float | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, said=_said(0, total))

        def advance(done: float = 1, *, total: float | None = None, before: bool = False) -> None:
            current = bar.tasks[task]
            if total is not None:
                bar.update(task, total=total)
            bar.update(task, advance=done, said=_said(current.completed + done, current.total))
            if before:
                bar.reset(task, completed=int(done), total=current.total, said=_said(done, current.total))

        yield advance


class _Lines:
    """Progress for a log: one line each ``PIPED_EVERY_S``."""

    def __init__(self, what: str, total: float | None, clock: Callable[[], float]) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._began_s = self._told_s = clock()
        self._done = self._before = 0.0

    def __call__(self, done: float = 1, *, total: float | None = None, before: bool = False) -> None:
        self._done += done
        self._before += done if before else 0.0
        self._total = self._total if total is None else total
        now = self._clock()
        if now - self._told_s >= PIPED_EVERY_S:
            self._told_s = now
            note(f"{self._what}: {_said(self._done, self._total)}{self._left(now)}")

    def _left(self, now: float) -> str:
        done = self._done - self._before
        if not self._total or done <= 0 or self._done >= self._total:
            return ""
        return f", {seconds((now - self._began_s) * (self._total - self._done) / done)} left"


def _said(done: float, total: float | None) -> str:
    return f"{done:,.0f} of {total:,.0f}" if total else f"{done:,.0f}"
