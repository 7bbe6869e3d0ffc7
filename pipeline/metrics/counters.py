"""Makes our metrics: all names start with ``penstock_``, and all belong to one task's registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Histogram buckets for times, in seconds."""


def counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    """Make the counter ``penstock_<name>_total``."""
    return Counter(f"penstock_{name}", text, labels, registry=registry)


def gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    """Make the gauge ``penstock_<name>``."""
    return Gauge(f"penstock_{name}", text, labels, registry=registry)


def histogram(registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
    """Make the histogram ``penstock_<name>_bucket``, ``_sum`` and ``_count``."""
    return Histogram(f"penstock_{name}", text, buckets=buckets, registry=registry)
