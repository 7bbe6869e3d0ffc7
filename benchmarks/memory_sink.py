"""A sink without cost: everything it receives is durable at once, and dropped."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.record import Position, Record, Run, Shard
from pipeline.sinks import OnDurable

OnRun = Callable[[Run], None]


def _ignore(run: Run) -> None:
    return


class Memory:
    """The sink. ``on_run`` sees every run first."""

    name = "memory"

    wants_payloads = False

    def __init__(self, on_run: OnRun = _ignore) -> None:
        self._on_run = on_run

    async def check(self) -> None:
        """Do nothing."""
        return

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> MemoryWriter:
        """Return a writer."""
        return MemoryWriter(self._on_run, on_durable)

    async def close(self) -> None:
        """Do nothing."""
        return


class MemoryWriter:
    """Makes one shard's records durable at once."""

    backlog_bytes = 0

    def __init__(self, on_run: OnRun, on_durable: OnDurable) -> None:
        self._on_run = on_run
        self._on_durable = on_durable

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return None: it holds nothing."""
        return None

    def write(self, run: Run) -> None:
        """Pass the run to ``on_run`` and report it as durable."""
        self._on_run(run)
        self._on_durable(run.end)

    async def flush(self) -> None:
        """Return at once."""
        return

    def abandon(self) -> None:
        """Do nothing."""
        return
