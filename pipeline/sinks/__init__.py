"""Where settled records go, and when they count as durable.

A sink opens one writer for each shard session. The stage hands every writer the same runs in sequence order. A writer
reports the position up to which everything it received is durable. The checkpoint follows the lowest of these
positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.record import Position, Record, Run, Shard

OnDurable = Callable[[Position], None]


def _unheard(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class SinkEvents:
    """What a sink reports about its work, for metrics. May be called from any thread; must not raise."""

    on_put: Callable[[int], None] = _unheard
    """An object, or the records of a request, of this many bytes were written."""
    on_retry: Callable[[], None] = _unheard
    """A call is made again."""
    on_refused: Callable[[int], None] = _unheard
    """This many rows cannot be stored in this sink; each becomes a dead letter of this sink."""
    on_stop: Callable[[str], None] = _unheard
    """The task ends because too many rows cannot be stored; the text is the limit that was exceeded."""


NOBODY = SinkEvents()


class ShardWriter(Protocol):
    """Writes one shard session's records to a sink. Every method is called from the event loop.

    ``abandon`` has priority: after it, nothing more is written and ``on_durable`` is not called again.
    """

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return the position up to which this sink already has the shard, or None. Called before any record is
        admitted.

        ``first`` is the first record after ``checkpoint`` (None: there is no checkpoint yet, or a sentinel). The stage
        skips records up to the returned position only if *all* sinks have them. A writer must itself ignore records at
        or below the position that it returned.
        """
        ...

    def write(self, run: Run) -> None:
        """Take a run. Never blocks and never raises: on trouble, ``on_durable`` does not advance and a log line says
        why.
        """
        ...

    @property
    def backlog_bytes(self) -> int:
        """Bytes taken and not yet durable. The stage stops admitting records while the sum exceeds its limit."""
        ...

    async def flush(self) -> None:
        """Return once everything taken is durable. Retries without end; cancel it to give up."""
        ...

    def abandon(self) -> None:
        """The lease is lost: drop the buffer and write nothing more."""
        ...


class Sink(Protocol):
    """A destination: a Parquet prefix, a stream, the dead letters. ``name`` is used in messages and metrics."""

    name: str
    wants_payloads: bool
    """Whether runs must have their ``payloads``. They use memory until the sink has dropped the run."""

    async def check(self) -> None:
        """Check at start that the destination can be reached and written.

        :raises UserError: it cannot; the text says what to fix.
        """
        ...

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> ShardWriter:
        """Open a writer for a shard session. ``on_durable`` reports positions, ``on_fatal`` an error that must end
        the task.
        """
        ...

    async def close(self) -> None:
        """Stop all writers. What is not durable yet is not written."""
        ...
