"""Where settled records go, and when they count as durable.

A sink opens one writer per shard session. The stage hands every writer the same runs in sequence order; a writer
reports the position up to which everything it was handed is durable. The checkpoint follows the least of them.
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
    """What a sink tells about its work, for whoever counts it. Called from any thread; none may raise."""

    on_put: Callable[[int], None] = _unheard
    """An object, or the records of a request, of so many bytes were written."""
    on_retry: Callable[[], None] = _unheard
    """A call is made again."""
    on_refused: Callable[[int], None] = _unheard
    """So many rows cannot be carried; each is a dead letter of this sink."""
    on_stop: Callable[[str], None] = _unheard
    """The task ends for this reason: too many rows cannot be carried."""


NOBODY = SinkEvents()


class ShardWriter(Protocol):
    """One shard session's way into a sink. Every method is called from the event loop.

    ``abandon`` wins over everything: after it, nothing more is written and ``on_durable`` is not called again.
    """

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Before anything is admitted: the position up to which this sink already holds the shard, if any.

        ``first`` is the first record after ``checkpoint`` (None: no checkpoint yet, a sentinel). Records up to the
        returned position are skipped by the stage for this sink's sake only when *all* sinks hold them; a writer
        must itself ignore what it is handed at or below the position it returned.
        """
        ...

    def write(self, run: Run) -> None:
        """Take a run. Never blocks and never fails: trouble shows as ``on_durable`` not advancing, and in logs."""
        ...

    @property
    def backlog_bytes(self) -> int:
        """Bytes taken and not durable yet; the stage stops admitting when the sum passes its bound."""
        ...

    async def flush(self) -> None:
        """Return once everything written is durable. Retries without end; cancel it to give up."""
        ...

    def abandon(self) -> None:
        """The lease is lost: drop the buffer, write nothing more."""
        ...


class Sink(Protocol):
    """A destination: a Parquet prefix, a stream, the dead letters."""

    name: str
    wants_payloads: bool
    """Whether runs are to have their ``payloads``: memory until the sink has dropped the run."""

    async def check(self) -> None:
        """At start: reachable and writable, or ``UserError`` with one line that says what to mend."""
        ...

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> ShardWriter: ...

    async def close(self) -> None: ...
