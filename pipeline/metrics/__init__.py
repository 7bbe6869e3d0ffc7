"""What a task counts: one class for each subject, and :class:`Metrics`, which has them all.

Each part of a task receives the subject that it counts for. Methods are named after the events that they note; all are
called for each message or batch, not for each record. Labels are shards, sinks, and a small fixed set of reasons.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pipeline.flow.progress import Progress
from pipeline.metrics.batches import BatchMetrics
from pipeline.metrics.counters import counter
from pipeline.metrics.dead_letters import DeadLetterMetrics
from pipeline.metrics.in_flight import InFlightMetrics, OutageMetrics
from pipeline.metrics.model import ModelMetrics
from pipeline.metrics.records import RecordMetrics
from pipeline.metrics.replica_time import ReplicaTimeMetrics
from pipeline.metrics.shards import ShardMetrics
from pipeline.metrics.sinks import SinkMetrics
from pipeline.outages import Outage, Outages


class Metrics:
    """One task's metrics: for Prometheus (:meth:`exposition`) and as a dict (:meth:`snapshot`).

    Note events from the event loop only; only ``prometheus_client``'s own objects are thread-safe.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, outages: Outages | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self.outages = outages or Outages()
        """What fails now and is retried; the parts that retry note it."""
        self.progress = Progress()
        self.records = RecordMetrics(registry, self.progress, clock)
        self.batches = BatchMetrics(registry)
        self.replica_time = ReplicaTimeMetrics(registry)
        self.dead_letters = DeadLetterMetrics(registry)
        self.model = ModelMetrics(registry, self.dead_letters, self.replica_time, self.progress)
        self.sinks = SinkMetrics(registry, self.dead_letters)
        self.shards = ShardMetrics(registry)
        self.in_flight = InFlightMetrics(registry)
        self._outage = OutageMetrics(registry, self.outages)
        self._rejected_connections = counter(
            registry,
            "rejected_connections",
            "Connections to the internal socket that were closed because they are not KCL's",
        )

    def rejected_connection(self) -> None:
        """A connection that was not a bridge's was closed."""
        self._rejected_connections.inc()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def snapshot(self) -> dict[str, Any]:
        """Return totals since the start, present values, and what fails now and is tried again, as JSON."""
        totals, batches, loads = self.records.totals, self.batches, self.in_flight.loads()
        return {
            "records_in": totals.received,
            "enriched": totals.enriched,
            "dead_letters": totals.dead,
            "settled": totals.enriched + totals.dead,
            "durable": totals.durable,
            "checkpointed": totals.checkpointed,
            "checkpoints_refused": totals.refused,
            "batches": batches.batches,
            "mean_batch": round(batches.mean, 2),
            "queue": batches.waiting,
            "in_flight": sum(load.records for load in loads.values()),
            "in_flight_bytes": sum(load.size for load in loads.values()),
            "not_durable": sum(load.not_durable for load in loads.values()),
            "shards": sorted(totals.lag_ms.keys() | loads.keys()),
            "lag_s": max(totals.lag_ms.values(), default=0) / 1000,
            "retries": self.model.retries,
            "replica_restarts": self.model.restarts,
            "batch_size_target": self.replica_time.batch_size_target,
            "capacity": {part: round(share, 4) for part, share in self.replica_time.shares().items()},
            "outages": [self._as_json(outage) for outage in self.outages.current()],
        }

    def _as_json(self, outage: Outage) -> dict[str, Any]:
        """``kind``: of the part that fails: ``model``, ``sink`` or ``other``."""
        sinks = self.sinks.names
        return {
            "part": outage.part,
            "kind": "model" if outage.part == "model" else "sink" if outage.part in sinks else "other",
            "reason": outage.reason,
            "for_s": round(outage.lasted_s, 1),
        }
