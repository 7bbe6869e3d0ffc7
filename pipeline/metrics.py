"""What a task counts. Methods are named as the events they note; all are called per message or batch, not per record.

Labels are shards, sinks, and a small closed set of reasons; text from records never becomes one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any, TypeVar, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.utilization import ReplicaTime
from pipeline.events import Condemned, ModelEvent, OutOfMemory, Predicted, ReplicaReplaced, Retried, SafeCostLearned
from pipeline.flow.progress import Progress
from pipeline.outages import Outages
from pipeline.record import REASONS
from pipeline.sinks import SinkEvents

M = TypeVar("M", Counter, Gauge)

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

LATE_BATCHES = 500
"""So many batches are what is meant by "of late"."""

InFlight = Callable[[], Mapping[str, tuple[int, int]]]
"""Per shard: records admitted and not yet settled, and the bytes held for it until they are durable."""


@dataclass(slots=True)
class _Totals:
    """Since the start, over all shards, also those whose lease went elsewhere."""

    records_in: int = 0
    enriched: int = 0
    dead_letters: int = 0
    durable: int = 0
    checkpointed: int = 0
    batches: int = 0
    batched: int = 0
    queue: int = 0
    retries: int = 0
    replica_restarts: int = 0
    lag_ms: dict[str, int] = field(default_factory=dict)


class Metrics:
    """One task's counters, as Prometheus reads them (:meth:`exposition`) and as one dict (:meth:`snapshot`).

    Not thread-safe beyond what ``prometheus_client`` is: note events from the event loop.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._totals = _Totals()
        self.progress = Progress()
        self.sinks: set[str] = set()
        """The names of those whose events are counted here; an outage of one has its name."""
        self.outages = Outages()
        """What fails now and is tried again, noted by whoever tries."""
        self.in_flight: InFlight = dict
        self._account: ReplicaTime | None = None
        self._clock: Callable[[], float] = time.monotonic
        self._pace: BatchSizeController | None = None
        self._shards: dict[tuple[Any, str], Any] = {}
        self._late_batches: deque[float] = deque(maxlen=LATE_BATCHES)
        self.stop_reason: str | None = None
        """Why the task has to end, if it has: too many dead letters."""
        self._make_records()
        self._make_model()
        self._make_sinks()
        self._make_shards()
        self.registry.register(_Looked(self))

    def _make_records(self) -> None:
        self._received = self._counter("records_received", "Records received from KCL", "shard")
        self._enriched = self._counter("records_enriched", "Records settled with a row", "shard")
        self._dead = self._counter("records_dead", "Records settled as dead letters", "shard")
        self._durable = self._counter("records_durable", "Records durable in every sink", "shard")
        self._checkpointed = self._counter("records_checkpointed", "Durable records covered by a checkpoint", "shard")
        self._checkpoints = self._counter("checkpoints", "Checkpoints that KCL accepted", "shard")
        self._checkpoint_failures = self._counter("checkpoint_failures", "Checkpoints that KCL rejected", "shard")
        self._dead_letters = self._counter(
            "dead_letters", "Dead letters by reason; counts the same records as penstock_records_dead_total", "reason"
        )
        self._rejected_connections = self._counter(
            "rejected_connections", "Connections to the internal socket that were closed because they are not KCL's"
        )
        self._misplaced = self._counter(
            "misplaced_aggregates",
            "Aggregates with user records of another shard's hash keys; these are processed as usual",
        )
        self._lag = Gauge(
            "penstock_lag_seconds", "How far behind the newest record, per shard", ["shard"], registry=self.registry
        )
        self._by_shard = (
            self._received,
            self._enriched,
            self._dead,
            self._durable,
            self._checkpointed,
            self._checkpoints,
            self._checkpoint_failures,
            self._lag,
        )

    def _make_model(self) -> None:
        self._retries = self._counter("predict_retries", "Predict calls that repeat part of a batch")
        self._restarts = self._counter("replica_restarts", "Replicas replaced")
        self._out_of_memory = self._counter(
            "out_of_memory", "Batches that were halved because they did not fit into memory"
        )
        self._predicted = self._counter("predicted_records", "Records in predict calls that returned")
        self._predicted_cost = self._counter("predicted_cost", "Cost of the records in predict calls")
        self._padded_cost = self._counter("predicted_padded_cost", "Cost of the batches in predict calls, with padding")
        self._safe_cost = Gauge(
            "penstock_batch_cost_limit",
            "The highest batch cost that fits into memory and model.timeout_s; 0: no limit known",
            registry=self.registry,
        )
        self._queue = Gauge("penstock_queue_records", "Records waiting for a batch", registry=self.registry)
        self._batch_records = Histogram(
            "penstock_batch_records", "Records per micro-batch", buckets=BATCH_SIZES, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "penstock_batch_seconds",
            "Time from forming a batch to its last result",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._predict_seconds = Histogram(
            "penstock_predict_seconds", "Time per predict call in the replica", buckets=SECONDS, registry=self.registry
        )

    def _make_sinks(self) -> None:
        self._puts = self._counter("sink_puts", "Writes by a sink", "sink")
        self._put_bytes = self._counter("sink_bytes", "Bytes written by a sink", "sink")
        self._put_retries = self._counter("sink_retries", "Writes that a sink repeated", "sink")
        self._limit = Gauge(
            "penstock_dead_letter_limit_reached",
            "1 if the task exits because of too many dead letters",
            registry=self.registry,
        )

    def _make_shards(self) -> None:
        self._stuck = Gauge("penstock_stuck_shards", "Shards that fall behind without progress", registry=self.registry)
        self._unread = Gauge("penstock_unread_shards", "Shards that should be read and are not", registry=self.registry)
        self._retention_used = Gauge(
            "penstock_retention_used_ratio",
            "The largest lag, as a share of the stream's retention",
            registry=self.registry,
        )
        self._expired = self._counter("expired_shards", "Shards whose records expired before they were read")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"penstock_{name}", text, labels, registry=self.registry)

    def _of(self, metric: M, shard: str) -> M:
        """The shard's own; ``labels`` looks it up under a lock each time."""
        own: M | None = self._shards.get((metric, shard))
        if own is None:
            own = self._shards[metric, shard] = metric.labels(shard)
        return own

    # -- events

    def received(self, shard: str, records: int) -> None:
        """KCL handed over a message's records."""
        self._totals.records_in += records
        self.progress.received(shard, records, self._clock())
        self._of(self._received, shard).inc(records)

    def lag(self, shard: str, lag_ms: int) -> None:
        """``millisBehindLatest`` of a shard's newest message."""
        self._totals.lag_ms[shard] = lag_ms
        self._of(self._lag, shard).set(lag_ms / 1000)

    def queued(self, records: int) -> None:
        """So many records wait in the batcher now."""
        self._totals.queue = records
        self._queue.set(records)

    def batch(self, records: int, seconds: float) -> None:
        """A micro-batch came back from the model."""
        self._totals.batches += 1
        self._totals.batched += records
        self._late_batches.append(seconds)
        self._batch_records.observe(records)
        self._batch_seconds.observe(seconds)

    def settled(self, shard: str, enriched: int, dead: int) -> None:
        """A run was released to the sinks."""
        self._totals.enriched += enriched
        self._totals.dead_letters += dead
        self.progress.settled(shard, enriched + dead)
        self._of(self._enriched, shard).inc(enriched)
        self._of(self._dead, shard).inc(dead)

    def dead_letter(self, reason: str, records: int = 1) -> None:
        """Records became dead letters for one of :data:`pipeline.record.REASONS`."""
        self._dead_letters.labels(reason if reason in REASONS else "other").inc(records)

    def misplaced(self, aggregates: int) -> None:
        """Aggregates hold user records whose hash keys are another shard's."""
        self._misplaced.inc(aggregates)

    def durable(self, shard: str, records: int) -> None:
        """So many more records are durable in every sink."""
        self._totals.durable += records
        self._of(self._durable, shard).inc(records)

    def checkpointed(self, shard: str, records: int) -> None:
        """KCL accepted a checkpoint, which passed so many more records."""
        self._totals.checkpointed += records
        self._of(self._checkpoints, shard).inc()
        self._of(self._checkpointed, shard).inc(records)

    def checkpoint_failed(self, shard: str) -> None:
        self._of(self._checkpoint_failures, shard).inc()

    def retried(self) -> None:
        """Predict was called again: a bisection, or a record tried alone."""
        self._totals.retries += 1
        self._retries.inc()

    def replica_restarted(self) -> None:
        self._totals.replica_restarts += 1
        self._restarts.inc()

    def model_event(self, event: ModelEvent) -> None:
        """What a model host tells of its work."""
        match event:
            case Predicted():
                self._note_call(event)
            case Retried(shards=shards):
                self.retried()
                self.progress.tried_again(shards)
            case Condemned(kind=kind, records=records):
                self.dead_letter(kind, records)
            case OutOfMemory():
                self._out_of_memory.inc()
            case SafeCostLearned(cost=cost):
                self._safe_cost.set(cost)
            case ReplicaReplaced():
                self.replica_restarted()
            case _:
                assert_never(event)

    def _note_call(self, call: Predicted) -> None:
        self._predict_seconds.observe(call.seconds)
        self._predicted.inc(call.records)
        self._predicted_cost.inc(call.cost)
        self._padded_cost.inc(call.padded)
        if self._account is not None:
            self._account.called(call)

    def at_work(self, batches: int, *, held: bool) -> None:
        """So many batches are out now; ``held``: the sinks have more than the task may hold."""
        if self._account is not None:
            self._account.state(self._clock(), batches, held=held)

    def rejected_connection(self) -> None:
        """A connection was closed that was no bridge's."""
        self._rejected_connections.inc()

    def of_sink(self, sink: str) -> SinkEvents:
        """What the sink of this name tells, counted under its name."""
        self.sinks.add(sink)
        return SinkEvents(
            on_put=partial(self.sink_put, sink),
            on_retry=partial(self.sink_retried, sink),
            on_refused=partial(self.dead_letter, "sink"),
            on_stop=self.stopped,
        )

    def sink_put(self, sink: str, size_bytes: int) -> None:
        """A sink wrote an object, or a request's records."""
        self._puts.labels(sink).inc()
        self._put_bytes.labels(sink).inc(size_bytes)

    def sink_retried(self, sink: str) -> None:
        self._put_retries.labels(sink).inc()

    def stopped(self, reason: str) -> None:
        """The task ends because of too many dead letters."""
        self.stop_reason = reason
        self._limit.set(1)

    def stuck(self, shards: int) -> None:
        """So many shards fall behind and do not move."""
        self._stuck.set(shards)

    def unread(self, shards: int) -> None:
        """So many shards should be read and are not, for longer than a change of hands takes."""
        self._unread.set(shards)

    def retention_used(self, share: float) -> None:
        """The largest lag, as a share of what the stream keeps: at 1 records expire unread."""
        self._retention_used.set(share)

    def expired(self, shards: int) -> None:
        """Of so many shards records have expired that were not read."""
        self._expired.inc(shards)

    def watch(self, in_flight: InFlight) -> None:
        """Ask this, whenever somebody looks, for what is in flight."""
        self.in_flight = in_flight

    def account_for(
        self, replicas: int, pace: BatchSizeController | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """From now on keep account of the replicas' time."""
        self._account = ReplicaTime(replicas, pace)
        self._pace, self._clock = pace, clock

    def shares(self) -> Mapping[str, float]:
        """Of the replicas' time, see :class:`pipeline.batching.utilization.ReplicaTime`; empty if nobody keeps
        account."""
        return {} if self._account is None else self._account.shares(self._clock())

    def late_shares(self) -> Mapping[str, float]:
        """The same of late."""
        return {} if self._account is None else self._account.late_shares(self._clock())

    @property
    def batch_size_target(self) -> int:
        """The size that is the best known; 0 before anything is."""
        return (self._pace.usual or 0) if self._pace is not None else 0

    def forget(self, shard: str) -> None:
        """The shard is another task's: its labels go, the totals stay."""
        self._totals.lag_ms.pop(shard, None)
        self.progress.forget(shard)
        for metric in self._by_shard:
            self._shards.pop((metric, shard), None)
            metric.remove(shard)

    # -- looking

    @property
    def batch_p99_s(self) -> float:
        """What all but one in a hundred of the late batches took at most; 0 before the first."""
        times = sorted(self._late_batches)
        return times[max(0, ceil(0.99 * len(times)) - 1)] if times else 0.0

    def exposition(self) -> bytes:
        """For Prometheus, in its text format."""
        return generate_latest(self.registry)

    def snapshot(self) -> dict[str, Any]:
        """Totals since the start and what is so now; JSON as it is."""
        totals, loads = self._totals, self.in_flight()
        return {
            "records_in": totals.records_in,
            "enriched": totals.enriched,
            "dead_letters": totals.dead_letters,
            "settled": totals.enriched + totals.dead_letters,
            "durable": totals.durable,
            "checkpointed": totals.checkpointed,
            "batches": totals.batches,
            "mean_batch": round(totals.batched / totals.batches, 2) if totals.batches else 0.0,
            "queue": totals.queue,
            "in_flight": sum(records for records, _ in loads.values()),
            "in_flight_bytes": sum(size for _, size in loads.values()),
            "shards": sorted(totals.lag_ms.keys() | loads.keys()),
            "lag_ms": max(totals.lag_ms.values(), default=0),
            "retries": totals.retries,
            "replica_restarts": totals.replica_restarts,
            "batch_size_target": self.batch_size_target,
            "capacity": {part: round(share, 4) for part, share in self.shares().items()},
            "outages": [str(trouble) for trouble in self.outages.current()],
        }


class _Looked:
    """Made when somebody looks, so that nobody has to keep them up to date."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        records = GaugeMetricFamily(
            "penstock_in_flight_records", "Records that have no row or dead letter yet", labels=["shard"]
        )
        size = GaugeMetricFamily(
            "penstock_in_flight_bytes", "Size of the records that are not durable yet", labels=["shard"]
        )
        for shard, (count, held) in self._metrics.in_flight().items():
            records.add_metric([shard], count)
            size.add_metric([shard], held)
        text = "How long this part has failed and been retried; absent while it works"
        trouble = GaugeMetricFamily("penstock_outage_seconds", text, labels=["part"])
        for each in self._metrics.outages.current():
            trouble.add_metric([each.part], each.lasted_s)
        usual = GaugeMetricFamily(
            "penstock_batch_size_target",
            "The batch size with the highest throughput so far, in records or cost",
            value=self._metrics.batch_size_target,
        )
        return records, size, trouble, usual, *self._capacity()

    def _capacity(self) -> Iterable[Metric]:
        shares = self._metrics.late_shares()
        text = "Share of replica time the model alone would have needed, in the last minute"
        yield GaugeMetricFamily("penstock_efficiency", text, value=shares.get("model", 0.0))
        capacity = GaugeMetricFamily(
            "penstock_capacity_share", "Shares of replica time by use, in the last minute", labels=["part"]
        )
        for part, share in shares.items():
            capacity.add_metric([part], share)
        yield capacity
