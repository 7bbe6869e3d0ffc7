"""What is in flight, and what fails now: computed when it is read, so that nothing has to update it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from pipeline.outages import Outages


class Load(NamedTuple):
    """What a shard holds. ``records``: admitted and not settled. ``size``: bytes held until they are durable.
    ``not_durable``: records admitted and not durable, settled or not; ``oldest_ms``: when the oldest of them arrived,
    in epoch ms; None if there is none."""

    records: int
    size: int
    not_durable: int = 0
    oldest_ms: int | None = None


InFlight = Callable[[], Mapping[str, Load]]
"""Returns what each shard holds."""


class InFlightMetrics:
    """Gauges of the stage that :meth:`watch` received last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loads: InFlight = dict
        registry.register(self)

    def watch(self, loads: InFlight) -> None:
        """Read the values from this function from now on."""
        self.loads = loads

    def oldest_ms(self) -> int | None:
        """When the oldest record that is not durable arrived, in epoch ms; None if there is none."""
        return min((each.oldest_ms for each in self.loads().values() if each.oldest_ms is not None), default=None)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics (``prometheus_client``'s collector interface)."""
        records = GaugeMetricFamily(
            "penstock_in_flight_records", "Records that have no row or dead letter yet", labels=["shard"]
        )
        size = GaugeMetricFamily(
            "penstock_in_flight_bytes", "Size of the records that are not durable yet", labels=["shard"]
        )
        for shard, load in self.loads().items():
            records.add_metric([shard], load.records)
            size.add_metric([shard], load.size)
        return records, size


class OutageMetrics:
    """One gauge for each part that fails now."""

    def __init__(self, registry: CollectorRegistry, outages: Outages) -> None:
        self._outages = outages
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics (``prometheus_client``'s collector interface)."""
        text = "How long this part has failed and been retried; absent while it works"
        outage = GaugeMetricFamily("penstock_outage_seconds", text, labels=["part"])
        for each in self._outages.current():
            outage.add_metric([each.part], each.lasted_s)
        return (outage,)
