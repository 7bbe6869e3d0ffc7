"""Runs one benchmark by itself: ``python -m benchmarks.<name> [--json] [RUNS]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import orjson

from benchmarks.figures import Figure


def run(measure: Callable[..., Mapping[str, Figure]]) -> None:
    """Print a line for each figure; with ``--json``, every run's value by the figure's key."""
    numbers = [int(each) for each in sys.argv[1:] if each.isdecimal()]
    figures = measure(*numbers[:1])
    if "--json" in sys.argv:
        sys.stdout.buffer.write(orjson.dumps({key: figure.values for key, figure in figures.items()}) + b"\n")
        return
    for figure in figures.values():
        bar = "" if figure.bar is None else f"  (bar {figure.bar:g}: {'reached' if figure.reached else 'missed'})"
        sys.stdout.write(f"{figure.key}  {figure.value:,.4g} {figure.unit} ± {figure.spread:.0%}{bar}  {figure.text}\n")
