"""Micro-batches: how many records wait for one, how large they are, how long they take."""

from __future__ import annotations

from collections import deque
from math import ceil

from prometheus_client import CollectorRegistry

from pipeline.metrics.counters import gauge, histogram

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

RECENT_BATCHES = 500
"""How many of the last batches :attr:`BatchMetrics.p99_s` covers."""


class BatchMetrics:
    """The batches that the stage gives to the model. Methods are called for each batch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batches = 0
        """Number of batches since the start."""
        self.records = 0
        """Number of records in these batches."""
        self.waiting = 0
        """Number of records that wait for a batch now."""
        self._recent: deque[float] = deque(maxlen=RECENT_BATCHES)
        self._queue = gauge(registry, "queue_records", "Records waiting for a batch")
        self._sizes = histogram(registry, "batch_records", "Records per micro-batch", BATCH_SIZES)
        self._seconds = histogram(registry, "batch_seconds", "Time from forming a batch to its last result")

    def queued(self, records: int) -> None:
        """This many records wait for a batch now."""
        self.waiting = records
        self._queue.set(records)

    def returned(self, records: int, seconds: float) -> None:
        """A micro-batch came back from the model, ``seconds`` after it was formed."""
        self.batches += 1
        self.records += records
        self._recent.append(seconds)
        self._sizes.observe(records)
        self._seconds.observe(seconds)

    @property
    def mean(self) -> float:
        """Records per batch since the start; 0 before the first."""
        return self.records / self.batches if self.batches else 0.0

    @property
    def p99_s(self) -> float:
        """The seconds that 99 of 100 recent batches did not exceed; 0 before the first."""
        times = sorted(self._recent)
        return times[max(0, ceil(0.99 * len(times)) - 1)] if times else 0.0
