"""The health page over HTTP."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from consumer.config.settings import HealthSettings
from consumer.http.health import Health
from pipeline.errors import ConfigError
from pipeline.metrics import Metrics

ANYWHERE = HealthSettings(port=0)


def answers(health: Health, *requests: tuple[str, str]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with health, httpx.AsyncClient(base_url=health.url, timeout=5) as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(ask())


def test_all_is_well() -> None:
    health = Health(ANYWHERE, Metrics(), lambda: None, lambda: None)
    alive, ready = answers(health, ("GET", "/healthz"), ("GET", "/readyz"))
    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert ready.status_code == 200


def test_not_ready_is_still_alive_and_says_why() -> None:
    health = Health(ANYWHERE, Metrics(), lambda: None, lambda: "the model is loading")
    alive, ready = answers(health, ("GET", "/healthz"), ("GET", "/readyz"))
    assert alive.status_code == 200
    assert (ready.status_code, ready.text) == (503, "the model is loading\n")


def test_an_unhealthy_task_is_not_ready() -> None:
    health = Health(ANYWHERE, Metrics(), lambda: "the JVM is gone", lambda: None)
    alive, ready = answers(health, ("GET", "/healthz"), ("GET", "/readyz"))
    assert (alive.status_code, alive.text) == (503, "the JVM is gone\n")
    assert ready.status_code == 503


def test_an_outage_is_shown_while_the_task_is_healthy() -> None:
    metrics = Metrics()
    metrics.outages.part("parquet:s3://bucket/table").failed("503 SlowDown")
    [alive] = answers(Health(ANYWHERE, metrics, lambda: None, lambda: None), ("GET", "/healthz"))
    assert alive.status_code == 200
    assert alive.text.startswith("ok\nparquet:s3://bucket/table: 503 SlowDown (for ")


def test_metrics_are_prometheus_text_and_stats_are_json() -> None:
    metrics = Metrics()
    metrics.records.received("shard-0", 3)
    health = Health(ANYWHERE, metrics, lambda: None, lambda: None)
    prometheus, stats = answers(health, ("GET", "/metrics"), ("GET", "/stats"))
    assert prometheus.headers["content-type"].startswith("text/plain")
    assert 'penstock_records_received_total{shard="shard-0"} 3.0' in prometheus.text
    assert stats.json() == metrics.snapshot()


def test_head_has_no_body_other_methods_and_paths_are_refused() -> None:
    health = Health(ANYWHERE, Metrics(), lambda: None, lambda: None)
    head, post, elsewhere = answers(health, ("HEAD", "/healthz"), ("POST", "/healthz"), ("GET", "/etc/passwd"))
    assert (head.status_code, head.content) == (200, b"")
    assert post.status_code == 405
    assert (elsewhere.status_code, elsewhere.text) == (404, "/healthz /readyz /metrics /stats\n")


def test_a_port_in_use_is_reported_in_one_line() -> None:
    async def start(port: int) -> None:
        async with Health(HealthSettings(port=port), Metrics(), lambda: None, lambda: None):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            asyncio.run(start(port))
    expected = (
        f"health.port: cannot listen on 127.0.0.1:{port} (Address already in use). Set it to a free port, or to 0"
    )
    assert str(raised.value) == expected


@pytest.mark.parametrize("host", ["no.such.host.invalid", "not a host", "203.0.113.1", f"{'a' * 64}.b"])
def test_a_host_that_is_not_of_this_machine_is_reported_as_the_host(host: str) -> None:
    async def start() -> None:
        async with Health(HealthSettings(host=host), Metrics(), lambda: None, lambda: None):
            pass

    with pytest.raises(
        ConfigError, match=rf"^health\.host: cannot listen on {host} .*Write an address of this machine"
    ):
        asyncio.run(start())


def test_the_port_is_free_again_afterwards() -> None:
    async def twice() -> tuple[int, int]:
        async with Health(ANYWHERE, Metrics(), lambda: None, lambda: None) as first:
            port = first.port
        async with Health(HealthSettings(port=port), Metrics(), lambda: None, lambda: None) as second:
            return port, second.port

    first, second = asyncio.run(twice())
    assert first == second > 0
