"""A sink that costs nothing: what it is handed is durable at once, and forgotten."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.record import Position, Record, Run, Shard
from pipeline.sinks import OnDurable

OnRun = Callable[[Run], None]


def _ignore(run: Run) -> None:
    return


class Memory:
    """``on_run`` sees every run first."""

    name = "memory"

    wants_payloads = False

    def __init__(self, on_run: OnRun = _ignore) -> None:
        self._on_run = on_run

    async def check(self) -> None:
        return

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> MemoryWriter:
        return MemoryWriter(self._on_run, on_durable)

    async def close(self) -> None:
        return


class MemoryWriter:
    """One shard's way into it."""

    backlog_bytes = 0

    def __init__(self, on_run: OnRun, on_durable: OnDurable) -> None:
        self._on_run = on_run
        self._on_durable = on_durable

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        return None

    def write(self, run: Run) -> None:
        self._on_run(run)
        self._on_durable(run.end)

    async def flush(self) -> None:
        return

    def abandon(self) -> None:
        return
