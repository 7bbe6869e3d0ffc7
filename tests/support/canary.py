"""A text that stands for all payloads, and what a task shows the world, in which it must not be."""

from __future__ import annotations

import logging

import pytest

from consumer.config.settings import HealthSettings
from consumer.http.health import Health
from consumer.logs import JsonLines
from pipeline.metrics import Metrics

CANARY = "canary5ca1ab1e"
SHARD_ID = "shardId-000000000000"


def shown(caplog: pytest.LogCaptureFixture) -> str:
    """Everything logged at INFO or above, as it is written, including tracebacks and extra fields."""
    return "\n".join(JsonLines().format(record) for record in caplog.records if record.levelno >= logging.INFO)


async def healths(metrics: Metrics) -> str:
    health = Health(HealthSettings(port=0), metrics, lambda: metrics.dead_letters.stop_reason, lambda: None)
    return "".join(health.answer("GET", path)[2].decode() for path in ("/healthz", "/readyz", "/metrics", "/stats"))
