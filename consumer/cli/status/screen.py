"""How ``penstock status`` looks: a summary, a table of shards (those without progress first), a table of workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumer.cli import output

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from consumer.admin.status.report import ShardStatus, Status, Trend, Why, WorkerStatus

SHARDS = ("shard", "owner", "behind", "records", "trend", "caught up in", "records/s", "checkpoint age", "why")
WORKERS = ("worker", "shards", "batch", "busy", "efficiency", "version", "seen", "remarks")
RIGHT = ("behind", "records", "caught up in", "records/s", "checkpoint age", "shards", "batch", "busy", "efficiency")

NARROW = {150: ("checkpoint age", "records"), 110: ("records/s", "caught up in"), 80: ("trend", "owner")}
"""The columns that are left out on a screen narrower than this."""

LEAST_ROWS = 2
"""Rows of shards below which the workers are left out of the screen."""

FRAME = 3
"""Lines of a table besides its rows: its head, and the empty lines around it."""


def summary(status: Status) -> list[str]:
    """The application in a few lines."""
    totals, leads = status.totals, status.leader or "no worker"
    layout = status.layout + (f", migration {status.migration}" if status.migration else "")
    behind = "unknown how far behind"
    if totals.behind_s is not None:
        behind = f"{output.seconds(totals.behind_s)} behind at most"
    reading = f"{totals.shards_to_read} to read ({totals.open_shards} open), {totals.shards_ended} read to their ends"
    pace = f"incoming {_rate(totals.arrival_rate)}, settled {_rate(totals.rate)}"
    lines = [
        f"{status.application} on stream {status.stream}, {clock(status.at_s)}",
        f"workers: {totals.workers_alive} of {totals.workers} alive, {leads} leads; KCL's items: {layout}",
        f"shards: {reading}, {totals.standing_still} stand still",
        f"all: {behind}, {_catching_up(totals.trend, totals.behind_s, totals.caught_up_in_s)}; {pace}",
    ]
    return lines + [f"not read: {each}" for each in status.unread]


def shard_rows(shards: Sequence[ShardStatus]) -> list[Sequence[object]]:
    """One row per shard: first those without progress, then by how far they are behind."""
    ordered = sorted(shards, key=lambda shard: (not _alarming(shard), -(shard.behind_s or 0.0), shard.shard_id))
    return [
        (
            shard.shard_id,
            f"{shard.drained_by} → {shard.owner}" if shard.drained_by else shard.owner or "none",
            output.seconds(shard.behind_s),
            shard.records_behind,
            None if shard.trend is None else shard.trend.value,
            _caught_up(shard.trend, shard.behind_s, shard.caught_up_in_s),
            shard.rate,
            output.seconds(shard.checkpoint_age_s),
            "; ".join(filter(None, (_why(shard.why), *(f"skip of record {each} pending" for each in shard.skips)))),
        )
        for shard in ordered
    ]


def worker_rows(workers: Sequence[WorkerStatus]) -> list[Sequence[object]]:
    """One row per worker, the leader first."""
    return [
        (
            worker.worker,
            worker.leases,
            worker.batch_size,
            _share(worker.busy),
            _share(worker.efficiency),
            worker.version,
            _seen(worker.seen_s_ago),
            "; ".join([*(["leader"] if worker.leader else []), *worker.problems]),
        )
        for worker in sorted(workers, key=lambda worker: (not worker.leader, worker.worker))
    ]


def show(status: Status) -> None:
    """Print all of it, once."""
    for line in summary(status):
        output.line(line)
    output.line("")
    output.table(SHARDS, shard_rows(status.shards), right=RIGHT)
    output.line("")
    output.table(WORKERS, worker_rows(status.workers), right=RIGHT)


class Screen:
    """All of it on one live screen, as large as the screen is when it is drawn: rows that do not fit are counted."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Drawn for each width and height."""
        from rich.text import Text

        head: list[Any] = [Text(output.cell(line), no_wrap=True, overflow="ellipsis") for line in summary(self.status)]
        height = options.height or console.size.height
        lines = _drawn(console, options, head + self._tables(height - len(head), options.max_width, one_line=False))
        if len(lines) > height - 1:  # rows that wrap take the room of others
            lines = _drawn(console, options, head + self._tables(height - len(head), options.max_width, one_line=True))
        for line in lines[: height - 1]:
            yield from line
            yield _new_line()

    def _tables(self, lines: int, width: int, *, one_line: bool) -> list[Any]:
        left_out = {name for limit, names in NARROW.items() if width < limit for name in names}
        columns = [place for place, name in enumerate(SHARDS) if name not in left_out]
        workers = worker_rows(self.status.workers)
        shards = shard_rows(self.status.shards)
        some = max(1, min(len(workers), lines // 3 - FRAME))
        room = lines - FRAME - (FRAME + some) - 2
        if alone := room < LEAST_ROWS:
            room = max(1, lines - FRAME - 1)
        rows = [[row[place] for place in columns] for row in _cut(shards, room, len(SHARDS))]
        named = [SHARDS[place] for place in columns]
        drawing = output.drawn(named, rows, width, right=RIGHT, one_line=one_line)
        if alone:
            return [drawing]
        named_workers = _cut(workers, some, len(WORKERS))
        return [drawing, output.drawn(WORKERS, named_workers, width, right=RIGHT, one_line=one_line)]


def clock(at_s: float) -> str:
    """A time of day in UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC"


def _cut(rows: Sequence[Sequence[object]], most: int, columns: int) -> list[Sequence[object]]:
    if len(rows) <= most or most == 1:
        return list(rows[:most])
    more = f"and {len(rows) - most + 1} more"
    return [*rows[: most - 1], (more, *[""] * (columns - 1))]


def _alarming(shard: ShardStatus) -> bool:
    return shard.why is not None and shard.why.kind.value != "no_new_records"


def _why(why: Why | None) -> str:
    if why is None:
        return ""
    return why.text if why.since_s is None else f"{why.text}, since {clock(why.since_s)}"


def _caught_up(trend: Trend | None, behind_s: float | None, in_s: float | None) -> str:
    if in_s is not None:
        return "now" if in_s == 0 else output.seconds(in_s)
    return "unknown" if trend is None or behind_s is None else "never so"


def _catching_up(trend: Trend | None, behind_s: float | None, in_s: float | None) -> str:
    if in_s == 0:
        return "caught up"
    said = "trend unknown" if trend is None else trend.value
    return said if in_s is None or behind_s is None else f"{said}, caught up in {output.seconds(in_s)}"


def _rate(value: float | None) -> str:
    return "unknown records/s" if value is None else f"{value:,.1f} records/s"


def _seen(seconds_ago: float | None) -> str:
    if seconds_ago is None:
        return output.UNKNOWN
    return "now" if seconds_ago < 1 else f"{output.seconds(round(seconds_ago))} ago"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}".replace("%", " %")


def _drawn(console: Console, options: ConsoleOptions, parts: Sequence[Any]) -> list[Any]:
    return [line for part in parts for line in console.render_lines(part, options.update(height=None))]


def _new_line() -> Any:
    from rich.segment import Segment

    return Segment.line()
