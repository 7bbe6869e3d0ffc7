"""The model's work, as its host reports it."""

from __future__ import annotations

from typing import assert_never

from prometheus_client import CollectorRegistry

from pipeline.events import DeadLettered, ModelEvent, OutOfMemory, Predicted, ReplicaReplaced, Retried, SafeCostLearned
from pipeline.flow.progress import Progress
from pipeline.metrics.counters import counter, gauge, histogram
from pipeline.metrics.dead_letters import DeadLetterMetrics
from pipeline.metrics.replica_time import ReplicaTimeMetrics


class ModelMetrics:
    """Predict calls, their cost, and what goes wrong with them."""

    def __init__(
        self,
        registry: CollectorRegistry,
        dead_letters: DeadLetterMetrics,
        replica_time: ReplicaTimeMetrics,
        progress: Progress,
    ) -> None:
        self.retries = 0
        self.restarts = 0
        self._letters = dead_letters
        self._replica_time = replica_time
        self._progress = progress
        self._retried = counter(registry, "predict_retries", "Predict calls that repeat part of a batch")
        self._restarted = counter(registry, "replica_restarts", "Replicas replaced")
        self._out_of_memory = counter(
            registry, "out_of_memory", "Batches that were halved because they did not fit into memory"
        )
        self._predicted = counter(registry, "predicted_records", "Records in predict calls that returned")
        self._cost = counter(registry, "predicted_cost", "Cost of the records in predict calls")
        self._padded_cost = counter(
            registry, "predicted_padded_cost", "Cost of the batches in predict calls, with padding"
        )
        self._safe_cost = gauge(
            registry,
            "batch_cost_limit",
            "The highest batch cost that fits into memory and model.timeout_s; 0: no limit known",
        )
        self._seconds = histogram(registry, "predict_seconds", "Time per predict call in the replica")

    def note(self, event: ModelEvent) -> None:
        """Count an event of the model host. Called for each call, not for each record."""
        match event:
            case Predicted():
                self._called(event)
            case Retried(shards=shards):
                self._progress.tried_again(shards)
                self.retries += 1
                self._retried.inc()
            case DeadLettered(kind=kind, records=records):
                self._letters.note(kind, records)
            case OutOfMemory():
                self._out_of_memory.inc()
            case SafeCostLearned(cost=cost):
                self._safe_cost.set(cost)
            case ReplicaReplaced():
                self.restarts += 1
                self._restarted.inc()
            case _:
                assert_never(event)

    def _called(self, call: Predicted) -> None:
        self._seconds.observe(call.seconds)
        self._predicted.inc(call.records)
        self._cost.inc(call.cost)
        self._padded_cost.inc(call.padded)
        self._replica_time.called(call)
