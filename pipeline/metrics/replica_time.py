"""How replicas spend their time, and how large batches should be; computed when it is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.utilization import ReplicaTime
from pipeline.events import Predicted


class ReplicaTimeMetrics:
    """Gauges of the replicas' time. Empty until :meth:`account_for` is called."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._account: ReplicaTime | None = None
        self._clock: Callable[[], float] = time.monotonic
        self._batch_sizes: BatchSizeController | None = None
        registry.register(self)

    def account_for(
        self, replicas: int, batch_sizes: BatchSizeController | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Measure the time of this many replicas from now on."""
        self._account = ReplicaTime(replicas, batch_sizes)
        self._batch_sizes, self._clock = batch_sizes, clock

    def called(self, call: Predicted) -> None:
        """A predict call returned."""
        if self._account is not None:
            self._account.called(call)

    def at_work(self, batches: int, *, held: bool) -> None:
        """This many batches are out now; ``held``: the task holds as many bytes as it may."""
        if self._account is not None:
            self._account.state(self._clock(), batches, held=held)

    def shares(self) -> Mapping[str, float]:
        """Return shares of the replicas' time since the start (:class:`pipeline.batching.utilization.ReplicaTime`);
        empty if it is not measured.
        """
        return {} if self._account is None else self._account.shares(self._clock())

    def recent_shares(self) -> Mapping[str, float]:
        """As :meth:`shares`, for the last minute."""
        return {} if self._account is None else self._account.late_shares(self._clock())

    @property
    def batch_size_target(self) -> int:
        """The best known batch size; 0 before it is known."""
        return (self._batch_sizes.usual or 0) if self._batch_sizes is not None else 0

    def collect(self) -> Iterable[Metric]:
        """Return the metrics (``prometheus_client``'s collector interface)."""
        shares = self.recent_shares()
        yield GaugeMetricFamily(
            "penstock_batch_size_target",
            "The batch size with the highest throughput so far, in records or cost",
            value=self.batch_size_target,
        )
        text = "Share of replica time the model alone would have needed, in the last minute"
        yield GaugeMetricFamily("penstock_efficiency", text, value=shares.get("model", 0.0))
        capacity = GaugeMetricFamily(
            "penstock_capacity_share", "Shares of replica time by use, in the last minute", labels=["part"]
        )
        for part, share in shares.items():
            capacity.add_metric([part], share)
        yield capacity
