"""The CloudWatch metrics of streams: statistics per minute, shard and metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS = 60_000


class Key(NamedTuple):
    """What statistics are kept for. ``shard_id`` is empty for the whole stream."""

    stream: str
    shard_id: str
    name: str
    minute_ms: int


@dataclass(slots=True)
class Statistics:
    """Count, sum, minimum and maximum of values, as CloudWatch's ``StatisticValues`` has them."""

    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.total += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)


class StreamMetrics:
    """Statistics since the last :meth:`drain`."""

    def __init__(self) -> None:
        self._kept: dict[Key, Statistics] = {}

    def add(self, key: Key, value: float) -> None:
        """Count one value of a metric."""
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = Statistics()
        found.add(value)

    def drain(self) -> dict[Key, Statistics]:
        """Return all statistics since the last call, and reset them."""
        kept, self._kept = self._kept, {}
        return kept
