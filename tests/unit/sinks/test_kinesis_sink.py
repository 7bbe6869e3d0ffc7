"""The sink with a Kinesis that refuses, fails and stalls as the test says."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pyarrow as pa
import pytest
from botocore.exceptions import EndpointConnectionError

from pipeline.errors import Fatal, UserError
from pipeline.record import Position
from pipeline.sinks.put_back_off import SEND
from tests.support.downstream import (
    DEADLINE_S,
    SHARD,
    Bench,
    FakeKinesis,
    bench,
    refusal,
    run_of,
    table,
    write_and_flush,
)


def test_every_enriched_record_is_one_row_under_its_own_key() -> None:
    made = bench(FakeKinesis(), write_and_flush(run_of(["a", None, "b"]), run_of(["c"], start=3)))
    assert made.payloads() == [{"record_id": f"source/{SHARD.shard_id}/{n}/0", "n": n, "value": "v"} for n in (0, 2, 3)]
    assert [row["PartitionKey"] for row in made.kinesis.rows] == ["a", "b", "c"]
    assert made.durable[-1] == Position(3, 0)
    assert made.waits == []


def test_dead_letters_alone_are_durable_without_a_call() -> None:
    made = bench(FakeKinesis(), write_and_flush(run_of([None, None])))
    assert made.durable == [Position(1, 0)]
    assert made.kinesis.calls == []


def test_calls_stay_within_the_limits_of_put_records() -> None:
    keys = [f"k{n}" for n in range(1100)]
    made = bench(FakeKinesis(), write_and_flush(run_of(keys)))
    assert [len(call) for call in made.kinesis.calls] == [500, 500, 100]
    large = [run_of([f"k{n}"], n, "x" * 900_000) for n in range(12)]
    made = bench(FakeKinesis(), write_and_flush(*large))
    sizes = [sum(len(row["Data"]) + len(row["PartitionKey"]) for row in call) for call in made.kinesis.calls]
    assert max(sizes) <= 5 * 1024 * 1024
    assert len(made.kinesis.rows) == 12


def test_only_refused_rows_are_sent_again_and_later_ones_of_their_key_wait() -> None:
    kinesis = FakeKinesis(lambda number: number != 1)
    made = bench(kinesis, write_and_flush(run_of(["a", "b", "a", "c"])))
    assert [[row["PartitionKey"] for row in call] for call in kinesis.calls] == [["a", "b", "c"], ["a"], ["a"]]
    assert [row["n"] for row in made.payloads()] == [1, 3, 0, 2]
    assert made.durable[-1] == Position(3, 0)
    assert len(made.waits) == 1


def test_nothing_is_durable_that_was_not_accepted() -> None:
    kinesis = FakeKinesis(lambda number: number != 2, lambda number: False)
    made = bench(kinesis, write_and_flush(run_of(["a", "b", "c"])))
    assert made.durable == [Position(0, 0), Position(2, 0)]
    assert len(kinesis.calls) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        refusal("ProvisionedThroughputExceededException"),
        refusal("InternalFailure"),
        refusal("ServiceUnavailable"),
        refusal("ExpiredTokenException"),
        EndpointConnectionError(endpoint_url="http://localhost:1"),
        lambda number: False,
    ],
)
def test_trouble_is_outlasted_with_growing_waits(trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    made = bench(FakeKinesis(*[trouble] * 12), write_and_flush(run_of(["a", "b", "a"])))
    assert [row["n"] for row in made.payloads()] == [0, 1, 2]
    assert len(made.waits) == 12
    assert made.waits[0] < 3 * SEND.first_s and made.waits[-1] >= SEND.last_s / 2
    assert "again in" in caplog.text


@pytest.mark.parametrize(
    ("code", "least_s", "most_s"),
    [
        ("AccessDeniedException", 60, 75),
        ("ExpiredTokenException", 60, 75),
        ("ResourceNotFoundException", 60, 75),
        ("InternalFailure", 3_600, 3_615),
    ],
)
def test_a_failure_that_lasts_ends_the_task_with_the_reason(code: str, least_s: float, most_s: float) -> None:
    async def play(made: Bench) -> None:
        made.writer.write(run_of(["a"]))
        error = await made.fatal
        assert isinstance(error, Fatal) and code in str(error) and "enriched" in str(error)
        assert [trouble.part for trouble in made.metrics.outages.current()] == ["kinesis:enriched"]

    made = bench(FakeKinesis(*[refusal(code)] * 1000), play)
    assert least_s <= sum(made.waits) <= most_s
    assert made.durable == []
    assert not made.metrics.outages.current()


def test_a_stream_that_takes_larger_records_is_given_them() -> None:
    async def play(made: Bench) -> None:
        made.kinesis.summary["MaxRecordSizeInKiB"] = 10 * 1024
        await made.sink.check()
        made.writer.write(run_of(["a"], 7, "x" * 8 * 1024 * 1024))
        await made.writer.flush()

    assert len(bench(FakeKinesis(), play).kinesis.rows) == 1


def test_rows_that_do_not_match_their_records_end_the_task() -> None:
    async def play(made: Bench) -> None:
        made.sink.table = lambda run: table(run).slice(1)
        made.writer.write(run_of(["a", "b"]))
        assert "2 enriched records made 1 row" in str(await made.fatal)

    assert bench(FakeKinesis(), play).kinesis.calls == []


def test_a_defect_ends_the_task_instead_of_hanging_it() -> None:
    async def play(made: Bench) -> None:
        made.sink.table = lambda run: pa.table({}).column("missing")
        made.writer.write(run_of(["a"]))
        assert isinstance(await made.fatal, Fatal)

    assert bench(FakeKinesis(), play).durable == []


def test_a_stalled_stream_holds_the_backlog_and_all_of_it_drains_when_it_recovers() -> None:
    async def play(made: Bench) -> None:
        made.kinesis.open.clear()
        runs = [run_of([f"k{n}" for n in range(100)], 100 * number) for number in range(5)]
        for run in runs:
            made.writer.write(run)
        flushed = asyncio.ensure_future(made.writer.flush())
        assert await asyncio.to_thread(made.kinesis.entered.wait, DEADLINE_S)
        assert made.writer.backlog_bytes > 0 and made.durable == [] and not flushed.done()
        made.kinesis.open.set()
        await flushed

    made = bench(FakeKinesis(), play)
    assert sorted(row["n"] for row in made.payloads()) == list(range(500))
    assert made.durable == sorted(made.durable) and made.durable[-1] == Position(499, 0)


def test_an_abandoned_writer_sends_nothing_more_and_reports_nothing() -> None:
    async def play(made: Bench) -> None:
        made.kinesis.open.clear()
        made.writer.write(run_of(["a", "b", "a"]))
        assert await asyncio.to_thread(made.kinesis.entered.wait, DEADLINE_S)
        made.writer.abandon()
        assert made.writer.backlog_bytes == 0
        made.kinesis.open.set()
        other = made.sink.open(SHARD, made.durable.append, made.fatal.set_result)
        other.write(run_of(["z"], 9))
        await other.flush()
        assert not made.fatal.done()

    made = bench(FakeKinesis(), play)
    assert sorted([row["PartitionKey"] for row in call] for call in made.kinesis.calls) == [["a", "b"], ["z"]]
    assert made.durable == [Position(9, 0)]


def test_a_writer_does_not_know_what_the_stream_has() -> None:
    async def play(made: Bench) -> None:
        assert await made.writer.resume(run_of(["a"]).records[0], Position(3, 0)) is None

    bench(FakeKinesis(), play)


@pytest.mark.parametrize("seed", range(20))
def test_however_rows_are_refused_each_arrives_once_in_order_of_its_key(seed: int) -> None:
    drawn = random.Random(seed)
    answers = [lambda number: drawn.random() < 0.6 for _ in range(60)]
    outages = [refusal("InternalFailure") if drawn.random() < 0.2 else answer for answer in answers]
    keys = [drawn.choice(["a", "b", "c", "d", None]) for _ in range(60)]
    runs = [run_of(keys[start : start + 7], start) for start in range(0, 60, 7)]
    made = bench(FakeKinesis(*outages), write_and_flush(*runs))
    for key in "abcd":
        found = [orjson.loads(row["Data"])["n"] for row in made.kinesis.rows if row["PartitionKey"] == key]
        assert found == [n for n, each in enumerate(keys) if each == key]
    assert made.durable == sorted(made.durable) and made.durable[-1] == Position(59, 0)


def test_check_passes_on_a_stream_that_is_there() -> None:
    async def play(made: Bench) -> None:
        await made.sink.check()

    assert bench(FakeKinesis(), play).sink.row_bytes == 1024 * 1024


def test_check_names_a_stream_that_is_missing_or_not_ready() -> None:
    async def play(made: Bench) -> None:
        made.kinesis.summary["StreamStatus"] = "CREATING"
        with pytest.raises(UserError, match="CREATING"):
            await made.sink.check()
        made.kinesis.missing = True
        with pytest.raises(UserError, match=r"enriched: there is no such stream"):
            await made.sink.check()

    bench(FakeKinesis(), play)
