"""The sinks that the settings name, and where an application begins."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from consumer.app import Task
from consumer.aws.clients import Aws
from consumer.build import Outside, Parts, limits_of, waits_of
from consumer.config.load import parse
from consumer.config.settings import HealthSettings, Settings
from consumer.http.health import Health
from consumer.leases import leases
from consumer.leaving import Departure
from consumer.poison.session_notes import may_be_caused_by_a_record
from consumer.stats_line import StatsLines
from pipeline.background import Background
from pipeline.dead_letters.limit import Limits
from pipeline.errors import ConfigError, Fatal, UserError
from pipeline.metrics import Metrics
from pipeline.sinks.dead_letters import DeadLetterSink
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.parquet import ParquetSink

ROWS = pa.schema([("score", pa.float32())])


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    return Aws()


def settings(folder: Path, *sinks: dict[str, Any], start: str = "TRIM_HORIZON") -> Settings:
    return parse(
        {
            "stream": {"name": "events", "application": "app", "start": start},
            "model": {"factory": "a:B", "version": "1"},
            "sink": list(sinks),
            "dead_letter": {"url": str(folder / "dead")},
        },
        {},
    )


def parquet(folder: Path, name: str = "table") -> dict[str, Any]:
    return {"type": "parquet", "url": str(folder / name)}


def test_the_first_parquet_sink_keeps_the_dead_letters(aws: Aws, tmp_path: Path) -> None:
    both = settings(tmp_path, {"type": "kinesis", "stream": "out"}, parquet(tmp_path))
    sinks = Parts(both, Outside.of(aws), Metrics()).sinks(ROWS)
    assert [type(sink) for sink in sinks] == [KinesisSink, ParquetSink]


def test_without_a_parquet_sink_dead_letters_have_their_own_sink(aws: Aws, tmp_path: Path) -> None:
    sinks = Parts(settings(tmp_path, {"type": "kinesis", "stream": "out"}), Outside.of(aws), Metrics()).sinks(ROWS)
    assert [type(sink) for sink in sinks] == [KinesisSink, DeadLetterSink]


def test_sinks_have_different_names(aws: Aws, tmp_path: Path) -> None:
    sinks = Parts(settings(tmp_path, parquet(tmp_path, "a"), parquet(tmp_path, "b")), Outside.of(aws), Metrics()).sinks(
        ROWS
    )
    assert len({sink.name for sink in sinks}) == 2


def test_a_column_of_the_models_that_is_ours_is_a_mistake(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="record_id"):
        Parts(settings(tmp_path, parquet(tmp_path)), Outside.of(aws), Metrics()).sinks(
            pa.schema([("record_id", pa.string())])
        )


def test_a_start_says_when_rows_can_be_read(tmp_path: Path) -> None:
    kinesis = {"type": "kinesis", "stream": "other"}
    [line] = waits_of(settings(tmp_path, kinesis, parquet(tmp_path) | {"flush_interval_s": 10}))
    assert line.startswith(f"{tmp_path / 'table'}: ") and "at most 10 s after" in line
    assert "sink.1.flush_interval_s" in line


def test_no_region_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(UserError, match="AWS_REGION"):
        Aws().client("kinesis")


def test_healthz_is_red_where_a_limit_of_dead_letters_ends_the_task(aws: Aws, tmp_path: Path) -> None:
    """The task may have ended before the answer is needed."""
    task = Task(settings(tmp_path, parquet(tmp_path)))
    assert task.report.unhealthy() is None
    task.metrics.dead_letters.stopped("1,000 records in a row became dead letters")
    assert task.report.unhealthy() == "1,000 records in a row became dead letters"


def test_garbage_is_collected_again_once_a_task_consumes(aws: Aws, tmp_path: Path) -> None:
    """``penstock run`` collects none until then."""
    task = Task(settings(tmp_path, parquet(tmp_path)))

    async def main() -> None:
        task.background = Background(lambda error: None)
        async with Health(HealthSettings(port=0), task.metrics, lambda: None, lambda: None) as health:
            task._tell_that_it_consumes(task.settings.stream, health)
        await task.background.stop()

    gc.disable()
    try:
        asyncio.run(main())
        assert gc.isenabled()
    finally:
        gc.enable()


def test_the_line_of_figures_reads_a_tasks_report(aws: Aws, tmp_path: Path) -> None:
    task = Task(settings(tmp_path, parquet(tmp_path)))
    task.metrics.outages.part("model").failed("no replica starts")
    [outage] = task.report.stats()["outages"]
    assert (outage["part"], outage["kind"], outage["reason"]) == ("model", "model", "no replica starts")
    assert StatsLines().next(task.report.stats())["outage_s"] == outage["for_s"]


def test_leases_that_are_not_released_are_reported_in_one_line_and_blame_no_record(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ClientError({"Error": {"Code": "InternalFailure", "Message": "gone"}}, "DeleteItem")

    monkeypatch.setattr(leases, "release", refused)
    told: dict[str, Any] = dict.fromkeys(("past", "careful", "background", "asked"))
    departure = Departure(settings(tmp_path, parquet(tmp_path)), "w", aws, **told)
    with pytest.raises(
        Fatal, match=r"the leases were not released; they expire in 10 s: ClientError: .*gone"
    ) as caught:
        departure.free()
    assert not may_be_caused_by_a_record(caught.value)


def test_rows_that_a_kinesis_sink_cannot_carry_have_the_limits_of_dead_letters(aws: Aws, tmp_path: Path) -> None:
    made = settings(tmp_path, {"type": "kinesis", "stream": "out"})
    [sink, _] = Parts(made, Outside.of(aws), Metrics()).sinks(ROWS)
    assert isinstance(sink, KinesisSink)
    assert sink.limits == limits_of(made) == Limits(1_000, 0.5, 1_000, "failures")
