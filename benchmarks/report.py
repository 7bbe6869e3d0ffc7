"""Prints the figures as a table, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

PIPED_COLUMNS = 1000


def as_json(figure: Figure) -> dict[str, Any]:
    """Return the figure as JSON."""
    return {
        "value": figure.value,
        "values": figure.values,
        "spread": round(figure.spread, 4),
        "unit": figure.unit,
        "bar": figure.bar,
        "at_most": figure.at_most,
        "reached": figure.reached,
        "text": figure.text,
    }


def table(console: Console, figures: Sequence[Figure]) -> None:
    """Print a row for each figure. A missed target is red on a terminal."""
    rows = Table(title="Benchmarks", title_justify="left")
    for name in ("figure", "median", "range", "spread", "bar", "what it is"):
        rows.add_column(name, justify="right" if name in {"median", "range", "spread", "bar"} else "left")
    for figure in figures:
        least, most = min(figure.values), max(figure.values)
        rows.add_row(
            figure.key,
            f"{figure.value:,.4g} {figure.unit}".strip(),
            f"{least:,.4g} - {most:,.4g}",
            f"{figure.spread:.0%}",
            bar_of(figure),
            figure.text,
            style="red" if figure.reached is False else None,
        )
    fit(console)
    console.print(rows)


def fit(console: Console) -> None:
    """Print whole lines into a pipe or file, where rich would assume 80 columns and cut them."""
    if not console.is_terminal:
        console.width = max(console.width, PIPED_COLUMNS)


def bar_of(figure: Figure) -> str:
    """Return ``>= 1.5 reached`` or the like; empty without a target."""
    if figure.bar is None:
        return ""
    return f"{'<=' if figure.at_most else '>='} {figure.bar:,g} {'reached' if figure.reached else 'MISSED'}"


def plot(figures: Sequence[Figure], path: Path) -> None:
    """Draw every run of the figures that have a target, as a multiple of it: right of the line is better."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    barred = [figure for figure in figures if figure.bar]
    image, axes = plt.subplots(figsize=(8, 1 + 0.4 * len(barred)), layout="constrained")
    for row, figure in enumerate(reversed(barred)):
        shares = [multiple(figure, value) for value in figure.values]
        axes.plot(shares, [row] * len(shares), "o", color="tab:blue", alpha=0.4)
        axes.plot([multiple(figure, figure.value)], [row], "|", color="black", markersize=16)
    axes.axvline(1.0, color="tab:red", linewidth=1)
    axes.set_yticks(range(len(barred)), [figure.key for figure in reversed(barred)])
    axes.set_xlabel("how many times as good as the bar (runs; their median)")
    axes.set_xscale("log")
    image.savefig(path, dpi=120)
    plt.close(image)


def multiple(figure: Figure, value: float) -> float:
    """Return how many times as good as the target the value is."""
    assert figure.bar
    return figure.bar / value if figure.at_most else value / figure.bar
