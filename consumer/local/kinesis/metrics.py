"""What CloudWatch is told of a stream: per minute, shard and metric, a sum of statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS = 60_000


class Key(NamedTuple):
    """``shard_id`` is empty for the stream as a whole."""

    stream: str
    shard_id: str
    name: str
    minute_ms: int


@dataclass(slots=True)
class Statistics:
    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)


class Metrics:
    """Adds up until it is drained."""

    def __init__(self) -> None:
        self._kept: dict[Key, Statistics] = {}

    def add(self, key: Key, value: float) -> None:
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = Statistics()
        found.add(value)

    def drain(self) -> dict[Key, Statistics]:
        """All since the last drain."""
        kept, self._kept = self._kept, {}
        return kept
