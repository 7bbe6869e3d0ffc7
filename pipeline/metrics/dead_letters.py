"""Dead letters by reason, and whether too many of them end the task."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pipeline.metrics.counters import counter, gauge
from pipeline.record import REASONS


class DeadLetterMetrics:
    """Dead letters. The reason is one of a fixed set: text from records never becomes a label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stop_reason: str | None = None
        """Why the task has to end because of too many dead letters; None if it has not."""
        self._by_reason = counter(
            registry,
            "dead_letters",
            "Dead letters by reason; counts the same records as penstock_records_dead_total",
            "reason",
        )
        self._limit = gauge(
            registry, "dead_letter_limit_reached", "1 if the task exits because of too many dead letters"
        )

    def note(self, reason: str, records: int = 1) -> None:
        """Records became dead letters for one of :data:`pipeline.record.REASONS`."""
        self._by_reason.labels(reason if reason in REASONS else "other").inc(records)

    def stopped(self, reason: str) -> None:
        """The task ends because of too many dead letters."""
        self.stop_reason = reason
        self._limit.set(1)
