"""What each sink writes, and how often it retries."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry

from pipeline.metrics.counters import counter
from pipeline.metrics.dead_letters import DeadLetterMetrics
from pipeline.sinks import SinkEvents


class SinkMetrics:
    """Counts sinks' events by their names."""

    def __init__(self, registry: CollectorRegistry, dead_letters: DeadLetterMetrics) -> None:
        self.names: set[str] = set()
        """The sinks whose events are counted here; an outage of a sink has its name."""
        self._letters = dead_letters
        self._puts = counter(registry, "sink_puts", "Writes by a sink", "sink")
        self._bytes = counter(registry, "sink_bytes", "Bytes written by a sink", "sink")
        self._retries = counter(registry, "sink_retries", "Writes that a sink repeated", "sink")

    def of(self, sink: str) -> SinkEvents:
        """Return the events for a sink to call, counted under its name."""
        self.names.add(sink)
        return SinkEvents(
            on_put=partial(self.put, sink),
            on_retry=partial(self.retried, sink),
            on_refused=partial(self._letters.note, "sink"),
            on_stop=self._letters.stopped,
        )

    def put(self, sink: str, size_bytes: int) -> None:
        """A sink wrote an object, or the records of a request."""
        self._puts.labels(sink).inc()
        self._bytes.labels(sink).inc(size_bytes)

    def retried(self, sink: str) -> None:
        """A sink repeats a call."""
        self._retries.labels(sink).inc()
