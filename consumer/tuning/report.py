"""The output of ``penstock tune``: a progress bar, a table, JSON, a plot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.errors import UserError, counted

if TYPE_CHECKING:
    from consumer.tuning.measure import Tell, Tuned

DOTS_PER_INCH = 120


@contextlib.contextmanager
def progress(console: Console, seconds: float) -> Iterator[Tell]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = bar.add_task("", total=seconds)
    with bar:
        yield lambda what, spent_s: bar.update(task, description=what, completed=spent_s)


def table(tuned: Tuned) -> Table:
    """One row per cell. The best is marked; a cell that was left out says why."""
    profile = tuned.profile
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("replicas", "threads", "batch", "records/s", "spread", "call ms", "runs"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("")
    for each in tuned.search.measured:
        combo, size = each.cell.combo, each.cell.size
        is_best = (combo.replicas, combo.threads, size) == (profile.replicas, profile.threads, profile.records)
        shown.add_row(
            str(combo.replicas),
            str(combo.threads),
            _batch(tuned, size),
            f"{each.records_per_s:,.1f}",
            f"{each.spread:.0%}" if len(each.runs) > 1 else "",
            f"{each.call_s * 1000:,.2f}",
            str(len(each.runs)),
            "best" if is_best else each.dropped,
            style="bold" if is_best else None,
        )
    return shown


def _batch(tuned: Tuned, size: int) -> str:
    """The batch size, with its cost if the model has one."""
    cost = tuned.plans[size].cost
    return f"{size} (cost {cost:,})" if cost else str(size)


def as_json(tuned: Tuned, profile: Path, plot: Path) -> dict[str, Any]:
    """``best``: as in the profile. ``measured``: one row per cell. ``left_out``: the cells without a run, and why."""
    search, best = tuned.search, tuned.profile
    return {
        "best": {
            "replicas": best.replicas,
            "threads": best.threads,
            "records": best.records,
            "cost": best.cost,
            "records_per_s": best.records_per_s,
            "call_ms": best.call_ms,
        },
        "profile": str(profile),
        "plot": str(plot),
        "measured": [
            {
                "replicas": each.cell.combo.replicas,
                "threads": each.cell.combo.threads,
                "records": each.cell.size,
                "cost": tuned.plans[each.cell.size].cost,
                "records_per_s": round(each.records_per_s, 2),
                "spread": round(each.spread, 3),
                "call_ms": round(each.call_s * 1000, 3),
                "runs": len(each.runs),
                "dropped": each.dropped,
            }
            for each in search.measured
        ],
        "left_out": [
            {"replicas": cell.combo.replicas, "threads": cell.combo.threads, "records": cell.size, "why": why}
            for cell, why in search.dropped.items()
            if cell not in {each.cell for each in search.measured}
        ],
    }


def draw(tuned: Tuned, path: Path) -> None:
    """Plot records per second over the batch size, one line per combination, as PNG.

    :raises UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    measured = tuned.search.measured
    for combo in sorted({each.cell.combo for each in measured}):
        line = [each for each in measured if each.cell.combo == combo]
        axes.plot(
            [each.cell.size for each in line],
            [each.records_per_s for each in line],
            marker="o",
            label=f"{combo.replicas} replica{'s' * (combo.replicas > 1)}, "
            f"{combo.threads} thread{'s' * (combo.threads > 1)} each",
        )
    best = tuned.profile
    axes.plot([best.records], [best.records_per_s], "k*", markersize=14, label="best")
    ticks = sorted({each.cell.size for each in measured})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("records in a batch")
    axes.set_ylabel("records/s")
    axes.set_title(f"{best.measured_for.factory} on {counted(best.measured_for.cores, 'core')}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DOTS_PER_INCH)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Choose another path with --plot") from None
