"""A range of a stream by time of arrival, and when a shard has passed it. Pure: times are arguments.

A shard has passed the range when a record arrives that is well after the end, or when the shard is idle after the end.
Then its session sends KCL no more answers: KCL reads no further, and never ends the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consumer.config.kcl_properties import READS_AHEAD
from pipeline.record import Record

MARGIN_MS = 2_000
"""Records of a shard may be this much out of the order of their arrival times; clocks may differ by as much."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Records that arrived at ``from_ms`` or later, and before ``to_ms``, in epoch milliseconds.

    ``shards``: only of these; None: of all. ``through``: shards that are not among them, and must be read to their ends
    because KCL begins a wanted shard only then. ``rate``: records a second in a task; 0: no limit.
    """

    from_ms: int
    to_ms: int
    shards: frozenset[str] | None = None
    through: frozenset[str] = frozenset()
    rate: float = 0.0

    def wants(self, shard_id: str) -> bool:
        """Whether the shard's records belong to the slice."""
        return self.shards is None or shard_id in self.shards


class ShardSlice:
    """One shard session's way through the slice. ``beyond``: no record of the slice is to come. ``reached_ms``: until
    when, by time of arrival, the shard is read; None before the first record.
    """

    def __init__(self, bounds: Slice, shard_id: str) -> None:
        self.beyond = not bounds.wants(shard_id) and shard_id not in bounds.through
        self.reached_ms: float | None = None
        self._bounds = bounds
        self._wanted = bounds.wants(shard_id)
        self._after_end = 0

    def take(self, records: Sequence[Record], behind_ms: int | None, now_ms: float) -> Sequence[Record]:
        """Return those of a message's records that belong to the slice.

        KCL has at most ``READS_AHEAD`` messages that it read earlier, and each says how far the shard was behind at
        that time. So only a message that follows as many after the end can show that the shard is idle.
        """
        if self.beyond:
            return ()
        seen: list[float] = [record.arrived_ms for record in records]
        if not seen and behind_ms == 0:
            seen = [now_ms]
        self.reached_ms = max([*seen, *([self.reached_ms] if self.reached_ms is not None else [])], default=None)
        end_ms = self._bounds.to_ms + MARGIN_MS
        idle = not records and behind_ms == 0 and self._after_end >= READS_AHEAD
        self._after_end += now_ms >= end_ms
        self.beyond = idle or any(record.arrived_ms >= end_ms for record in records)
        if not self._wanted:
            return ()
        first_ms, last_ms = self._bounds.from_ms, self._bounds.to_ms
        return [record for record in records if first_ms <= record.arrived_ms < last_ms]


def share_read(bounds: Slice, passed: int, reached_ms: Iterable[float | None]) -> float | None:
    """The share of the slice that is read, from 0 to 1: the mean of its shards, each by the time that it has reached.

    ``passed``: how many shards have passed the end; ``reached_ms``: of those that are read now. A parent that is read
    to its end is not among them, since its children go on from there. None if there are none.
    """
    span_ms = max(1, bounds.to_ms - bounds.from_ms)
    shares = [1.0] * passed
    for each in reached_ms:
        shares.append(0.0 if each is None else min(1.0, max(0.0, (each - bounds.from_ms) / span_ms)))
    return sum(shares) / len(shares) if shares else None


class RateLimit:
    """Limits all shards of a task together. Every record taken moves the time at which more may be read."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_s = float("-inf")

    def take(self, records: int, now_s: float) -> float:
        """Note that ``records`` were taken at ``now_s``. Return when more may be read; ``now_s`` without a limit."""
        if not self._per_second:
            return now_s
        self._free_s = max(self._free_s, now_s) + records / self._per_second
        return self._free_s
