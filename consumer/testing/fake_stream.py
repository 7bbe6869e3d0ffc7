"""A stream as KCL reads it, in memory: shards with parents and children. Aggregates are delivered whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from consumer.testing.aggregates import aggregate
from consumer.testing.fake_kcl import row
from pipeline.record import Position

FIRST_SEQUENCE = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
"""A sequence number with 56 digits, like those of Kinesis."""


class Throttled(Exception):
    """A call was throttled or timed out. It may succeed later; KCL retries it."""


@dataclass(slots=True)
class StreamShard:
    """One shard. ``sequences`` and ``rows`` have one entry per Kinesis record; ``positions`` one per user record."""

    shard_id: str
    parents: tuple[str, ...] = ()
    children: list[str] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether a split or a merge has closed the shard."""
        return bool(self.children)


@dataclass(frozen=True, slots=True)
class Read:
    """The result of a read. ``ended``: the shard is closed and has no records after these rows."""

    rows: Sequence[dict[str, Any]]
    ended: bool
    behind_ms: int


class FakeStream:
    """The stream. ``before`` is called with the name and shard of each operation, and may raise :class:`Throttled`."""

    def __init__(self, shards: int = 1) -> None:
        self.shards: dict[str, StreamShard] = {}
        self.before: Callable[[str, str], None] = lambda operation, shard_id: None
        self._sequence = FIRST_SEQUENCE
        for _ in range(shards):
            self._open(())

    # -- the producers' end

    def put(
        self, shard_id: str, payloads: Sequence[bytes], *, arrived_ms: int, key: str | None = "key"
    ) -> list[Position]:
        """Put one Kinesis record: one payload, or an aggregate of several. Returns the positions of its user records.

        :raises KeyError: if the shard is closed or does not exist.
        """
        data = payloads[0] if len(payloads) == 1 else aggregate(payloads, [key or "key"])
        return self.put_record(shard_id, data, len(payloads), arrived_ms=arrived_ms, key=key)

    def put_record(
        self, shard_id: str, data: bytes, holds: int = 1, *, arrived_ms: int, key: str | None = "key"
    ) -> list[Position]:
        """Put one Kinesis record as it is. ``holds`` is the number of its user records.

        :raises KeyError: if the shard is closed or does not exist.
        """
        shard = self.shards[shard_id]
        if shard.closed:
            raise KeyError(f"{shard_id} is closed")
        self._sequence += 1 + self._sequence % 7
        positions = [Position(self._sequence, sub) for sub in range(holds)]
        shard.positions += positions
        shard.sequences.append(self._sequence)
        shard.rows.append(row(self._sequence, data, 0, key, arrived_ms))
        return positions

    def split(self, shard_id: str) -> tuple[str, str]:
        """Close a shard, which keeps its records, and return the ids of its two children."""
        return self._open((shard_id,)), self._open((shard_id,))

    def merge(self, one: str, other: str) -> str:
        """Close two shards and return the id of their child."""
        return self._open((one, other))

    @property
    def open_shards(self) -> list[str]:
        """The ids of the shards that take records, oldest first."""
        return [shard_id for shard_id, shard in self.shards.items() if not shard.closed]

    def _open(self, parents: tuple[str, ...]) -> str:
        shard_id = f"shardId-{len(self.shards):012}"
        self.shards[shard_id] = StreamShard(shard_id, parents)
        for parent in parents:
            self.shards[parent].children.append(shard_id)
        return shard_id

    # -- KCL's end

    def read(self, shard_id: str, after: Position | None, limit: int) -> Read:
        """Read at most ``limit`` records after the *sequence number* of ``after``.

        KCL continues there after an expired iterator, so the rest of an aggregate with a checkpoint inside is lost.
        """
        self.before("read", shard_id)
        shard = self.shards[shard_id]
        start = 0 if after is None else bisect_right(shard.sequences, after.sequence)
        rows = list(islice(shard.rows, start, start + limit))
        left = len(shard.rows) - start - len(rows)
        return Read(rows, shard.closed and not left, left)
