"""A stream as KCL reads it, in memory: shards with parents and children; aggregates are handed over whole."""

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
"""Of 56 digits, as real ones are."""


class Throttled(Exception):
    """Too fast, or no answer: the same call may go through a little later. KCL tries again by itself."""


@dataclass(slots=True)
class StreamShard:
    """``sequences`` and ``rows`` go together, in sequence order; ``positions`` are those of all user records."""

    shard_id: str
    parents: tuple[str, ...] = ()
    children: list[str] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        return bool(self.children)


@dataclass(frozen=True, slots=True)
class Read:
    """``ended``: the shard is closed, and nothing of it comes after these rows."""

    rows: Sequence[dict[str, Any]]
    ended: bool
    behind_ms: int


class FakeStream:
    """``before`` is called with each operation's name and shard, and may raise :class:`Throttled`."""

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
        """One Kinesis record: of one payload, or an aggregate of several. Raises ``KeyError`` for a closed shard."""
        data = payloads[0] if len(payloads) == 1 else aggregate(payloads, [key or "key"])
        return self.put_record(shard_id, data, len(payloads), arrived_ms=arrived_ms, key=key)

    def put_record(
        self, shard_id: str, data: bytes, holds: int = 1, *, arrived_ms: int, key: str | None = "key"
    ) -> list[Position]:
        """One Kinesis record as it is, which ``holds`` so many user records."""
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
        """The shard is closed and keeps its records; what is put from now on is the children's."""
        return self._open((shard_id,)), self._open((shard_id,))

    def merge(self, one: str, other: str) -> str:
        return self._open((one, other))

    @property
    def open_shards(self) -> list[str]:
        return [shard_id for shard_id, shard in self.shards.items() if not shard.closed]

    def _open(self, parents: tuple[str, ...]) -> str:
        shard_id = f"shardId-{len(self.shards):012}"
        self.shards[shard_id] = StreamShard(shard_id, parents)
        for parent in parents:
            self.shards[parent].children.append(shard_id)
        return shard_id

    # -- KCL's end

    def read(self, shard_id: str, after: Position | None, limit: int) -> Read:
        """At most so many records behind the *sequence number* of ``after``: so KCL goes on when an iterator has
        expired, and what is left of an aggregate that a checkpoint stands in is never read again."""
        self.before("read", shard_id)
        shard = self.shards[shard_id]
        start = 0 if after is None else bisect_right(shard.sequences, after.sequence)
        rows = list(islice(shard.rows, start, start + limit))
        left = len(shard.rows) - start - len(rows)
        return Read(rows, shard.closed and not left, left)
