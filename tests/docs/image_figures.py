"""The figures of docs/deployment.md, from the file that ``make image-test`` leaves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.docs.figures import FIGURES

SMALL_MB = 0.1
"""Below it a layer has KB."""


def image() -> str:
    """What the layers weigh, how long a task takes to start, and how it left."""
    run = json.loads((FIGURES / "image.json").read_text())
    return "\n".join([_layers(run), _moves(run), _start(run), _left(run)])


def _layers(run: Mapping[str, Any]) -> str:
    rows = [[layer["reason"], size(layer["moved_mb"]), size(layer["disk_mb"])] for layer in run["layers"]]
    sums = [sum(layer[key] for layer in run["layers"]) for key in ("moved_mb", "disk_mb")]
    rows.append(["**all**", *(f"**{size(each)}**" for each in sums)])
    title = f"The image of `examples/minilm`, {run['date']}, {run['system']}"
    return f"{title}:\n\n{_table(('layer, from the bottom', 'pulled', 'unpacked'), rows)}"


def _moves(run: Mapping[str, Any]) -> str:
    moved, disk, changed = (size(run[key]) for key in ("plain_moved_mb", "plain_disk_mb", "change_moves_mb"))
    return (
        f"Penstock's image without torch: {moved} pulled, {disk} unpacked. "
        f"A changed line in the model's code moves {changed}.\n"
    )


def _start(run: Mapping[str, Any]) -> str:
    first, second = run["first"]["start"], run["second"]["start"]
    rows = [[part, f"{first[part]:.1f} s", f"{second[part]:.1f} s"] for part in first]
    rows.append(["**all**", *(f"**{sum(each.values()):.1f} s**" for each in (first, second))])
    title = f"A task's start, {run['date']}, {run['cores']} cores with other load"
    return f"{title}:\n\n{_table(('part', 'first task', 'second task'), rows)}"


def _left(run: Mapping[str, Any]) -> str:
    first, second, audit = run["first"], run["second"], run["audit"]
    told = f"The first task got SIGTERM after {first['enriched_when_told']:,.0f} of {run['records']:,} records"
    found = f"{audit['rows']:,} rows, {audit['dead_letters']} dead letters, {len(run['problems']) or 'no'} problems"
    return f"{told}: {_leaves(first)} The second task: {_leaves(second)} `penstock audit --complete` found {found}.\n"


def _leaves(life: Mapping[str, Any]) -> str:
    return f"{life['settled']:,} records settled, exit code {life['exit_code']} after {life['leave_s']:.1f} s."


def size(mb: float) -> str:
    """MB, or KB of little."""
    if mb < SMALL_MB:
        return f"{mb * 1000:.0f} KB"
    return f"{mb:,.0f} MB" if mb >= 10 else f"{mb:.1f} MB"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])
