"""``make bench``: every figure, each from runs that take turns in one session."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.figures import Figure
from benchmarks.report import as_json, plot, table
from tests.chaos.report import circumstances, progress

PARTS = ("live", "fifo", "host", "start", "startup", "sharing")
MORE = ("tuned", "curve", "chosen", "precision", "calls", "hub", "aggregated")
"""Parts that explain the others' figures and have no targets."""
BUILD = Path("build")


@click.command()
@click.option("--only", type=click.Choice([*PARTS, *MORE]), multiple=True, help="These parts alone.")
@click.option("--more", is_flag=True, help=f"These parts instead: {', '.join(MORE)}.")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Of each figure.")
@click.option("--json", "prints_json", is_flag=True, help="Print one JSON object on stdout instead of the table.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=BUILD, show_default=True)
@click.pass_context
def main(ctx: click.Context, only: tuple[str, ...], more: bool, runs: int, prints_json: bool, out: Path) -> None:
    """Measure, and write bench.json and bench.png. Exit code 1 if a bar was missed."""
    console = Console(stderr=prints_json, highlight=False)
    began = time.monotonic()
    figures: list[Figure] = []
    with progress(console) as show:
        for part in only or (MORE if more else PARTS):
            show(f"{part}: {runs} runs")
            figures += importlib.import_module(f"benchmarks.{part}").measure(runs).values()
    result = {
        **circumstances(),
        "seconds": round(time.monotonic() - began, 1),
        "runs": runs,
        "figures": {figure.key: as_json(figure) for figure in figures},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(figures, out / "bench.png")
    if prints_json:
        click.echo(json.dumps(result))
    else:
        table(console, figures)
    ctx.exit(1 if any(figure.reached is False for figure in figures) else 0)


if __name__ == "__main__":
    main()
