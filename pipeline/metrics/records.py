"""Records on their way: received, settled, durable, checkpointed; for each shard, and in total."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from pipeline.flow.progress import Progress
from pipeline.metrics.counters import counter, gauge


@dataclass(slots=True)
class RecordTotals:
    """Totals since the start, over all shards, also those that moved to other tasks. ``lag_ms``: of the shards held
    now.
    """

    received: int = 0
    enriched: int = 0
    dead: int = 0
    durable: int = 0
    checkpointed: int = 0
    refused: int = 0
    lag_ms: dict[str, int] = field(default_factory=dict)


class RecordMetrics:
    """What becomes of records. Methods are called for each message or run, not for each record."""

    def __init__(self, registry: CollectorRegistry, progress: Progress, clock: Callable[[], float]) -> None:
        """``progress`` is updated when records are received and settled, with the time of ``clock``."""
        self._progress = progress
        self._clock = clock
        self.totals = RecordTotals()
        self._received = counter(registry, "records_received", "Records received from KCL", "shard")
        self._enriched = counter(registry, "records_enriched", "Records settled with a row", "shard")
        self._dead = counter(registry, "records_dead", "Records settled as dead letters", "shard")
        self._durable = counter(registry, "records_durable", "Records durable in every sink", "shard")
        self._checkpointed = counter(
            registry, "records_checkpointed", "Durable records covered by a checkpoint", "shard"
        )
        self._checkpoints = counter(registry, "checkpoints", "Checkpoints that KCL accepted", "shard")
        self._failures = counter(registry, "checkpoint_failures", "Checkpoints that KCL rejected", "shard")
        self._lag = gauge(registry, "lag_seconds", "How far behind the newest record, per shard", "shard")
        self._misplaced = counter(
            registry,
            "misplaced_aggregates",
            "Aggregates with user records of another shard's hash keys; these are processed as usual",
        )
        self._counters = (
            self._received,
            self._enriched,
            self._dead,
            self._durable,
            self._checkpointed,
            self._checkpoints,
            self._failures,
        )
        self._of_shard: dict[tuple[Counter, str], Counter] = {}
        self._lag_of_shard: dict[str, Gauge] = {}

    def received(self, shard: str, records: int) -> None:
        """KCL delivered a message with this many records."""
        self.totals.received += records
        self._progress.received(shard, records, self._clock())
        self._of(self._received, shard).inc(records)

    def lag(self, shard: str, lag_ms: int) -> None:
        """The last message of the shard had this ``millisBehindLatest``."""
        self.totals.lag_ms[shard] = lag_ms
        own = self._lag_of_shard.get(shard)
        if own is None:
            own = self._lag_of_shard[shard] = self._lag.labels(shard)
        own.set(lag_ms / 1000)

    def settled(self, shard: str, enriched: int, dead: int) -> None:
        """A run was released to the sinks."""
        self.totals.enriched += enriched
        self.totals.dead += dead
        self._progress.settled(shard, enriched + dead)
        self._of(self._enriched, shard).inc(enriched)
        self._of(self._dead, shard).inc(dead)

    def misplaced(self, aggregates: int) -> None:
        """This many aggregates hold user records whose hash keys belong to another shard."""
        self._misplaced.inc(aggregates)

    def durable(self, shard: str, records: int) -> None:
        """This many more records are durable in every sink."""
        self.totals.durable += records
        self._of(self._durable, shard).inc(records)

    def checkpointed(self, shard: str, records: int) -> None:
        """KCL accepted a checkpoint that passed this many more records."""
        self.totals.checkpointed += records
        self._of(self._checkpoints, shard).inc()
        self._of(self._checkpointed, shard).inc(records)

    def checkpoint_failed(self, shard: str) -> None:
        """KCL rejected a checkpoint."""
        self.totals.refused += 1
        self._of(self._failures, shard).inc()

    def forget(self, shard: str) -> None:
        """The shard moved to another task: remove its labels, keep the totals."""
        self.totals.lag_ms.pop(shard, None)
        self._progress.forget(shard)
        self._lag_of_shard.pop(shard, None)
        self._lag.remove(shard)
        for metric in self._counters:
            self._of_shard.pop((metric, shard), None)
            metric.remove(shard)

    def _of(self, metric: Counter, shard: str) -> Counter:
        """The shard's own counter, kept here: ``labels`` looks it up under a lock each time."""
        own = self._of_shard.get((metric, shard))
        if own is None:
            own = self._of_shard[metric, shard] = metric.labels(shard)
        return own
