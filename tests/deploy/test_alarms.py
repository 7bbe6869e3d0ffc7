"""What the alarms of the templates say about lines that tasks log in a bad hour."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer.stats_line import StatsLines
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.metrics.in_flight import Load
from pipeline.record import Record, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink
from tests.support.alarms import Lines, in_alarm
from tests.support.cloudformation import TEMPLATE, Stack

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
CANARY = TEMPLATE.with_name("canary.yaml")
MINUTE = 60.0
QUIET: dict[str, Any] = {"by_shard": {}, "stuck": {}, "unread": {}}


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack(GIVEN)


@pytest.fixture(scope="module")
def canary(stack: Stack) -> Stack:
    return Stack(GIVEN, CANARY, beside=stack)


def hour_of(*, refusing: bool) -> Lines:
    """The lines of a worker that gets a record each minute, and whose sink makes nothing durable, or everything."""
    found: list[tuple[float, dict[str, Any]]] = []

    async def work() -> None:
        metrics, sink, lines = Metrics(), FakeSink(), StatsLines()
        stage = Stage(
            FakeJudge(), Batcher(max_records=8, max_cost=0, linger_s=0.0), [sink], Bounds(100, 10**6), metrics
        )
        running = asyncio.create_task(stage.run())
        if refusing:
            sink.stall()
        lane = stage.open(Shard("events", 1, "shardId-000000000000"), None)
        for minute in range(60):
            record = Record(lane.shard.shard_id, b"data", "key", str(minute), 0, round(minute * MINUTE * 1000))
            stage.admit(lane, [record])
            metrics.records.received(lane.shard.shard_id, 1)
            while lane.unsettled:
                lane.changed.clear()
                await lane.changed.wait()
            now_s, oldest_ms = (minute + 1) * MINUTE, metrics.in_flight.oldest_ms()
            age_s = 0.0 if oldest_ms is None else now_s - oldest_ms / 1000
            found.append((now_s, lines.next(metrics.snapshot() | QUIET | {"age_s": age_s})))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 10))
    return found


def test_a_bucket_that_refuses_is_seen_though_every_record_has_its_row(stack: Stack) -> None:
    lines = hour_of(refusing=True)
    assert {line["in_flight"] for _, line in lines} == {0}
    assert [line["not_durable"] for _, line in lines] == list(range(1, 61))
    assert not in_alarm(stack, "NothingDurableAlarm", lines, 10 * MINUTE)
    assert in_alarm(stack, "NothingDurableAlarm", lines, 30 * MINUTE)
    assert not in_alarm(stack, "RecordAgeAlarm", lines, 15 * MINUTE)
    assert in_alarm(stack, "RecordAgeAlarm", lines, 30 * MINUTE)


def test_a_bucket_that_works_is_not_an_alarm(stack: Stack) -> None:
    lines = hour_of(refusing=False)
    assert {line["not_durable"] for _, line in lines} == {0}
    for name in ("NothingDurableAlarm", "RecordAgeAlarm", "DeadLetterRateAlarm", "OutageAlarm"):
        assert not in_alarm(stack, name, lines, 60 * MINUTE)


def ended_by(metrics: Metrics, at_s: float) -> Lines:
    """The only line of a task that ends before a minute is over."""
    return [(at_s, StatsLines().next(metrics.snapshot() | QUIET | {"age_s": 20.0}))]


def test_a_task_that_each_time_ends_after_seconds_raises_the_alarms_of_its_dead_letters_and_its_sink(
    stack: Stack, canary: Stack
) -> None:
    metrics = Metrics()
    metrics.records.received("a", 300)
    metrics.records.settled("a", enriched=0, dead=300)
    lines = [line for minute in range(0, 30, 4) for line in ended_by(metrics, minute * MINUTE)]
    for each in (stack, canary):
        assert in_alarm(each, "DeadLetterRateAlarm", lines[:1], 5 * MINUTE)
        assert in_alarm(each, "DeadLetterRateAlarm", lines, 30 * MINUTE)
    refused = [(at_s, {**line, "outage_s": 60.0, "not_durable": 7}) for at_s, line in lines]
    assert in_alarm(stack, "OutageAlarm", refused, 30 * MINUTE) and not in_alarm(stack, "OutageAlarm", lines, 1800.0)
    assert in_alarm(stack, "NothingDurableAlarm", refused, 30 * MINUTE)


@pytest.mark.parametrize(("rows", "dead", "alarm"), [(0, 5, True), (0, 4, False), (1000, 40, False), (1000, 60, True)])
def test_the_rate_of_a_quiet_stream_counts_too(stack: Stack, rows: int, dead: int, alarm: bool) -> None:
    lines = [(30.0, {"rows": rows, "dead_letters": dead})]
    assert in_alarm(stack, "DeadLetterRateAlarm", lines, 300.0) is alarm


@pytest.mark.parametrize(
    ("each_minute", "desired", "running", "alarm"),
    [(True, 1, 1, False), (False, 1, 1, True), (True, 2, 1, True), (True, 1, 0, True), (False, 0, 0, False)],
)
def test_a_canary_that_does_not_start_or_crashes_again_and_again_is_an_alarm(
    canary: Stack, each_minute: bool, desired: int, running: int, alarm: bool
) -> None:
    lines = [(minute * MINUTE, {"rows": 1}) for minute in range(15)] if each_minute else []
    figures = {"DesiredTaskCount": desired, "RunningTaskCount": running}
    assert in_alarm(canary, "AbsentAlarm", lines, 15 * MINUTE, figures) is alarm
    assert "AbsentAlarmArn" in canary.template["Outputs"]


def test_a_part_of_the_fleet_that_crashes_again_and_again_is_below_desired(stack: Stack) -> None:
    """The smallest number of a period counts, so a task that runs most of the time is missing."""
    [running] = [
        each["MetricStat"]
        for each in stack.resource("BelowDesiredAlarm")["Properties"]["Metrics"]
        if each["Id"] == "running"
    ]
    assert (running["Stat"], running["Period"]) == ("Minimum", 300)
    assert in_alarm(stack, "BelowDesiredAlarm", [], 900.0, {"DesiredTaskCount": 4, "RunningTaskCount": 3})
    assert not in_alarm(stack, "BelowDesiredAlarm", [], 900.0, {"DesiredTaskCount": 4, "RunningTaskCount": 4})


def test_the_oldest_record_that_waits_in_a_sink_counts() -> None:
    metrics = Metrics()
    metrics.in_flight.watch(lambda: {"a": Load(0, 10, 3, 5_000), "c": Load(0, 10, 1, 4_000), "b": Load(0, 0)})
    assert metrics.in_flight.oldest_ms() == 4_000
