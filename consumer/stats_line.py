"""One line of figures in the log each minute and at the end, from ``/stats``. CloudWatch makes metrics of it.

Logs reach CloudWatch from every container, and a metric filter reads a number from a field of a JSON line. So alarms
need no agent, and the task needs no further permission. ``deploy/cloudformation`` has the filters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger("penstock.stats")

EVERY_S = 60.0
"""Seconds between two lines: CloudWatch's own resolution."""

SINCE_THE_LAST = {
    "received": "records_in",
    "rows": "enriched",
    "dead_letters": "dead_letters",
    "durable": "durable",
    "checkpoints_refused": "checkpoints_refused",
    "replica_restarts": "replica_restarts",
}
"""Fields that count events since the last line, and the totals of ``/stats`` from which they are computed."""


class StatsLines:
    """Makes the lines of one worker: each call returns the fields of the next line."""

    def __init__(self) -> None:
        self._before: dict[str, int] = dict.fromkeys(SINCE_THE_LAST, 0)

    def next(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        """Return counts since the last call, and current values; ``behind_s`` and ``outage_s`` are those of the worst
        part."""
        totals = {field: int(stats[total]) for field, total in SINCE_THE_LAST.items()}
        counts = {field: total - self._before[field] for field, total in totals.items()}
        self._before = totals
        return {
            **counts,
            "in_flight": stats["in_flight"],
            "not_durable": stats["not_durable"],
            "age_s": stats["age_s"],
            "shards": len(stats["by_shard"]),
            "behind_s": max((shard["behind_s"] for shard in stats["by_shard"].values()), default=0.0),
            "stuck_shards": len(stats["stuck"].keys() | stats["unread"].keys()),
            "outage_s": max((outage["for_s"] for outage in stats["outages"]), default=0.0),
        }


async def write(stats: Callable[[], Mapping[str, Any]]) -> None:
    """Write a line every minute until cancelled, and a last one then.

    A release that fails on every record may end its task within seconds: its dead letters are in the last line.
    """
    lines = StatsLines()
    try:
        while True:
            await asyncio.sleep(EVERY_S)
            _write(lines.next(stats()))
    finally:
        _write(lines.next(stats()))


def _write(line: Mapping[str, Any]) -> None:
    log.info("stats", extra={"stats": line})
