"""The line of figures in the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from consumer import stats_line
from consumer.stats_line import SINCE_THE_LAST, StatsLines
from pipeline.metrics import Metrics

NOW: dict[str, Any] = {"by_shard": {}, "stuck": {}, "unread": {}, "outages": [], "age_s": 0.0}


def test_counts_are_those_since_the_last_line() -> None:
    metrics, lines = Metrics(), StatsLines()
    metrics.records.received("a", 10)
    metrics.records.settled("a", enriched=7, dead=2)
    metrics.records.checkpoint_failed("a")
    first = lines.next(metrics.snapshot() | NOW)
    assert (first["received"], first["rows"], first["dead_letters"], first["checkpoints_refused"]) == (10, 7, 2, 1)
    metrics.records.received("a", 5)
    second = lines.next(metrics.snapshot() | NOW)
    assert second["received"] == 5
    assert not any(second[field] for field in SINCE_THE_LAST if field != "received")


def test_current_values_are_those_of_the_worst_part() -> None:
    now = {
        "by_shard": {"a": {"behind_s": 3.5}, "b": {"behind_s": 70.0}},
        "stuck": {"a": "stands still"},
        "unread": {"a": "is not read", "c": "is not read"},
        "outages": [{"for_s": 4.0}, {"for_s": 9.0}],
        "age_s": 80.0,
    }
    line = StatsLines().next(Metrics().snapshot() | now)
    assert (line["shards"], line["behind_s"], line["stuck_shards"], line["outage_s"]) == (2, 70.0, 2, 9.0)


def test_a_worker_without_shards_has_a_line() -> None:
    assert not any(StatsLines().next(Metrics().snapshot() | NOW).values())


def test_lines_are_logged_until_the_task_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stats_line, "EVERY_S", 0.0)
    metrics, asked = Metrics(), 0

    def stats() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise asyncio.CancelledError
        metrics.records.received("a", asked)
        return metrics.snapshot() | NOW

    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        asyncio.run(stats_line.write(stats))
    assert [record.name for record in caplog.records] == ["penstock.stats"] * 2
    assert [vars(record)["stats"]["received"] for record in caplog.records] == [1, 2]


def test_a_task_that_ends_within_a_minute_has_a_line_with_what_the_last_one_had_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()

    async def task() -> None:
        writing = asyncio.create_task(stats_line.write(lambda: metrics.snapshot() | NOW))
        await asyncio.sleep(0)
        metrics.records.settled("a", enriched=0, dead=300)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(task())
    assert [vars(record)["stats"]["dead_letters"] for record in caplog.records] == [300]
