"""Whether all shards are read, and early enough."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pipeline.metrics.counters import counter, gauge


class ShardMetrics:
    """Gauges of the whole stream, as far as this task sees it; without labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stuck = gauge(registry, "stuck_shards", "Shards that fall behind without progress")
        self._unread = gauge(registry, "unread_shards", "Shards that should be read and are not")
        self._retention_used = gauge(
            registry, "retention_used_ratio", "The largest lag, as a share of the stream's retention"
        )
        self._expired = counter(registry, "expired_shards", "Shards whose records expired before they were read")

    def stuck(self, shards: int) -> None:
        """This many shards fall behind without progress."""
        self._stuck.set(shards)

    def unread(self, shards: int) -> None:
        """This many shards should be read and are not, for longer than a handoff takes."""
        self._unread.set(shards)

    def retention_used(self, share: float) -> None:
        """The largest lag, as a share of the stream's retention: at 1, records expire unread."""
        self._retention_used.set(share)

    def expired(self, shards: int) -> None:
        """Records of this many shards expired before they were read."""
        self._expired.inc(shards)
