"""The figures in the documents, from the files that the last long runs have written. No figure is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

SIDES = ("ours", "theirs")
FIGURES = Path(__file__).parents[2] / "docs" / "figures"


def reliability() -> str:
    """The results of ``make chaos`` and ``make soak``, table by table."""
    chaos, soak = _read("chaos.json"), _read("soak.json")
    parts = [
        _storm(chaos),
        _stalls(chaos),
        _drains(soak),
        _giants(_read("giants.json")),
        _deaths([json.loads(line) for line in (FIGURES / "deaths.jsonl").read_text().splitlines()]),
    ]
    return "\n".join(parts)


def performance() -> str:
    """The results of ``make bench``."""
    bench = _read("bench.json")
    head = ("figure", "median", "range", "bar", "what it is")
    rows = [
        (
            f"`{key}`",
            f"**{_short(figure['value'])}** {figure['unit']}",
            _range(figure),
            _bar(figure),
            figure["text"],
        )
        for key, figure in bench["figures"].items()
    ]
    last = f"### The last run: {_when(bench)}, {bench['seconds'] / 60:.0f} minutes\n\n{_table(head, rows)}"
    return f"{last}\n{_commits(_read('commits.json'))}\n{_beside(_read('beside.json'))}\n{_task(_read('task.json'))}"


def _commits(found: Mapping[str, Any]) -> str:
    """The results of ``python -m benchmarks.beside``: the start of the commands and the host, beside another commit."""
    head = ("figure", f"`{found['ours']}`", f"`{found['theirs']}`", "ratio, median of pairs", "range")
    rows = [
        (
            f"`{figure['figure']}`",
            *(_short(median(figure[side])) for side in SIDES),
            f"{figure['ratio']:.2f}",
            f"{min(figure['ratios']):.2f} to {max(figure['ratios']):.2f}",
        )
        for figure in found["figures"]
    ]
    pairs = len(found["figures"][0]["ours"])
    title = f"### The start and the host beside another commit: {_when(found)}, {pairs} pairs that took turns"
    return f"{title}\n\n{_table(head, rows)}"


def _beside(beside: Mapping[str, Any]) -> str:
    """The results of ``benchmarks/aggregated.py beside`` for the host, in CPU time and in elapsed time."""
    head = ("input, and sink", "unit", "this commit", f"`{beside['beside']}`", "ratio, median of pairs")
    rows = [
        (
            turn["what"],
            turn["unit"],
            *(
                f"{_short(median(turn[side]))} ({_short(min(turn[side]))} to {_short(max(turn[side]))})"
                for side in SIDES
            ),
            f"{turn['ratio']:.2f}",
        )
        for turn in beside["turns"]
    ]
    pairs = len(beside["turns"][0]["ours"])
    return f"### Beside another commit: {_when(beside)}, {pairs} pairs that took turns\n\n{_table(head, rows)}"


def _task(task: Mapping[str, Any]) -> str:
    """The results of ``benchmarks/aggregated_task.py``: a whole task on a stream of aggregates."""
    names = {"jvm": "JVM", "bridge": "bridges", "replica": "a replica that does nothing"}
    units = {part: f"µs: {names.get(part, part)}" for part in task["ours"][0]} | {
        "task": "µs in all",
        "rate": "records/s",
    }
    rows = [
        (unit, *(_short(median(run[part] for run in task[side])) for side in SIDES)) for part, unit in units.items()
    ]
    head = ("per user record", "this commit", f"`{task['beside']}`")
    title = f"### A task on a stream of aggregates, real KCL: {_when(task)}, {len(task['ours'])} runs in turns"
    return f"{title}\n\n{_table(head, rows)}"


def more() -> str:
    """The results of ``make bench-more``: figures with a row and a column as a grid, others as rows."""
    found = _read("more.json")
    figures: dict[str, Mapping[str, Any]] = found["figures"]
    grids = [
        _grid(figures, "tuned", "replicas x threads", "batch"),
        _grid(figures, "curve", "tokens", "batch"),
        _grid(figures, "calls", "model", "calls of"),
    ]
    of_grids = {f"{name}_" for name in ("tuned", "curve", "calls")}
    rows = [
        (f"`{key}`", f"{_short(figure['value'])} {figure['unit']}", _range(figure), figure["text"])
        for key, figure in figures.items()
        if not any(key.startswith(grid) for grid in of_grids)
    ]
    head = ("figure", "median", "range", "what it is")
    return "\n".join([f"### What explains them: {_when(found)}\n", *filter(None, grids), _table(head, rows)])


def _grid(figures: Mapping[str, Mapping[str, Any]], name: str, rows: str, columns: str) -> str:
    """The medians of the figures named ``name_row_column``, if there are any."""
    cells: dict[str, dict[int, str]] = {}
    runs = 0
    for key, figure in figures.items():
        if key.startswith(f"{name}_"):
            row, column = key.removeprefix(f"{name}_").rsplit("_", 1)
            cells.setdefault(row, {})[int(column)] = f"{_short(figure['value'])} ± {figure['spread'] / 2:.0%}"
            runs = max(runs, len(figure["values"]))
    if not cells:
        return ""
    sizes = sorted({size for row in cells.values() for size in row})
    table = _table(
        (rows, *(f"{columns} {size}" for size in sizes)),
        [(row.replace("_", ", "), *(found.get(size, "") for size in sizes)) for row, found in cells.items()],
    )
    return f"`{name}`, records/s, medians of up to {runs} runs, ± half of the spread:\n\n{table}"


def _range(figure: Mapping[str, Any]) -> str:
    return f"{_short(min(figure['values']))} to {_short(max(figure['values']))}, {len(figure['values'])} runs"


def _bar(figure: Mapping[str, Any]) -> str:
    if figure["bar"] is None:
        return ""
    return f"{'≤' if figure['at_most'] else '≥'} {figure['bar']:,g}{'' if figure['reached'] else ', **missed**'}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _read(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((FIGURES / name).read_text())
    return made


def _storm(chaos: Mapping[str, Any]) -> str:
    storm = chaos["storm"]
    letters = storm["dead_letters"]
    kinds = ", ".join(f"{times} {kind}" for kind, times in letters.items())
    acts = "; ".join(f"{name} ({times})" for name, times in storm["acts"].items())
    rows = [
        ("put", f"{storm['put']:,} records, on {storm['shards']} shards in the end"),
        (
            "rows",
            f"{storm['rows']:,}, in {storm['files']:,} files; {storm.get('keyless', 0):,} without a partition key",
        ),
        ("dead letters, all of them poison", f"{sum(letters.values()):,}: {kinds}"),
        ("lost", storm["lost"]),
        ("doubled", storm["doubled"]),
        ("out of order", storm["out_of_order"]),
        ("healthy and dead-lettered", storm["wronged"]),
        ("workers that it took", storm["workers"]),
        ("longest without any progress", f"{storm['longest_idle_s']:.0f} s"),
        ("after the storm, until all was durable", f"{storm['calm_s']:.0f} s"),
    ]
    return "\n".join(
        [
            f"### The storm: {storm['storm_s'] / 60:g} minutes, {_when(chaos)}, seed {chaos['seed']}",
            "",
            f"What was done, and how often: {acts}.",
            "",
            _table(("", ""), rows),
        ]
    )


def _stalls(chaos: Mapping[str, Any]) -> str:
    names = {"a sink that stalls": chaos["stalled-sink"], "a model that hangs": chaos["hanging-model"]}
    rows = [
        (
            name,
            f"{stall['stalled_s'] / 60:g} min",
            f"{stall['put']:,}",
            f"{stall['rows']:,}",
            f"{stall['lost']} / {stall['doubled']}",
            stall["lease_losses"],
            stall["renewals"],
            f"{stall['growth_mib']:+.1f} MiB",
            f"{stall['drained_s']:.1f} s",
        )
        for name, stall in names.items()
    ]
    head = (
        "",
        "for",
        "put",
        "rows",
        "lost / doubled",
        "leases lost",
        "renewals",
        "memory of the host",
        "drained within",
    )
    return f"### Standing still, {_when(chaos)}\n\n{_table(head, rows)}"


def _drains(soak: Mapping[str, Any]) -> str:
    head = ("a batch takes", "left within", "of", "exit code", "finished and checkpointed", "left to the next worker")
    rows = [
        (
            f"{drain['batch_s']:g} s",
            f"{drain['leave_s']:.1f} s",
            f"{drain['allowed_s']:g} s",
            drain["exit_code"],
            drain["checkpointed"],
            drain["left_to_the_next"],
        )
        for drain in soak["drains"]
    ]
    return f"### SIGTERM in the middle of a batch, {_when(soak)}, seed {soak['seed']}\n\n{_table(head, rows)}"


def _giants(giants: Mapping[str, Any]) -> str:
    before, most = giants["before_mib"], giants["most_mib"]
    rows = [
        ("user records, in 5 Kinesis records", f"{giants['users']:,}"),
        ("until all were rows, durable and checkpointed", f"{giants['seconds']:.0f} s"),
        (
            f"the host, with `in_flight.total_mib = {giants['in_flight_mib']}`",
            f"{before['host']} MiB before, {most['host']} at most",
        ),
        (
            f"the JVM, with `kcl.java_heap_mib = {giants['heap_mib']}`",
            f"{before['jvm']} MiB before, {most['jvm']} at most; {giants['heap_most_mib']} MiB of heap at most",
        ),
    ]
    title = f"### The largest aggregates on a real worker, {_when(giants)}"
    return f"{title}\n\n{_table(('', ''), rows)}"


def _deaths(notes: Iterable[Mapping[str, Any]]) -> str:
    seconds: dict[str, list[float]] = {}
    for note in notes:
        seconds.setdefault(note["what"], []).append(note["seconds"])
    rows = [(what, len(each), f"{min(each):.1f} s", f"{max(each):.1f} s") for what, each in seconds.items()]
    return f"### Workers that stop or are killed\n\n{_table(('', 'runs', 'least', 'most'), rows)}"


def _when(run: Mapping[str, Any]) -> str:
    return f"{run['date']}, {run['cores']} cores"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([*lines, ""])
