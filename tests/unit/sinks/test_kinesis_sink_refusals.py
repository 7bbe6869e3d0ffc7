"""Rows that the downstream stream refuses become dead letters of the sink, and affect no other row."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.dead_letters.limit import Limits
from pipeline.errors import Fatal
from pipeline.record import Position
from pipeline.stores.base import Retryable
from tests.support.downstream import NAME, SHARD, Bench, FakeKinesis, bench, refusal, run_of, write_and_flush


def test_a_row_too_large_for_the_stream_is_a_dead_letter_of_this_sink_alone() -> None:
    runs = run_of(["a"], 6), run_of(["a"], 7, "x" * 1024 * 1024), run_of(["a"], 8)
    made = bench(FakeKinesis(), write_and_flush(*runs))
    assert [row["n"] for row in made.payloads()] == [6, 8]
    assert made.durable[-1] == Position(8, 0)
    [letter] = made.letters()
    assert letter["record_id"] == f"source/{SHARD.shard_id}/7/0"
    assert (letter["kind"], letter["sink"]) == ("sink", NAME)
    assert base64.b64decode(letter["payload_base64"]) == b"payload 7"
    assert "1,048,576" in letter["reason"]
    assert list(made.store.objects) == [f"dt=1970-01-01/1-{SHARD.shard_id}-{7:056}-0000000000~kinesis-enriched.jsonl"]


def invalid(marker: bytes) -> Callable[[FakeKinesis], None]:
    """Refuses every call that has a row with the marker."""

    def dress(kinesis: FakeKinesis) -> None:
        takes = kinesis.put_records

        def put_records(*, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
            if any(marker in row["Data"] for row in Records):
                kinesis.calls.append(Records)
                raise refusal("ValidationException")
            return takes(StreamName=StreamName, Records=Records)

        kinesis.put_records = put_records  # type: ignore[method-assign]

    return dress


@pytest.mark.parametrize("bad", [0, 77, 499])
def test_a_row_that_makes_whole_calls_invalid_is_found_and_affects_no_other(bad: int) -> None:
    async def play(made: Bench) -> None:
        invalid(f'"n":{bad},'.encode())(made.kinesis)
        await write_and_flush(run_of([f"k{n}" for n in range(600)]))(made)

    made = bench(FakeKinesis(), play)
    assert sorted(row["n"] for row in made.payloads()) == [n for n in range(600) if n != bad]
    assert [letter["sequence_number"] for letter in made.letters()] == [str(bad)]
    assert made.waits == []
    assert len(made.kinesis.calls) <= 13


def test_no_row_is_blamed_while_the_stream_itself_is_not_well() -> None:
    async def play(made: Bench) -> None:
        made.kinesis.missing = True
        made.writer.write(run_of(["a"]))
        assert isinstance(await made.fatal, Fatal)

    made = bench(FakeKinesis(*[refusal("ValidationException")] * 1000), play)
    assert made.letters() == [] and made.durable == []


def test_a_row_that_is_invalid_by_itself_is_a_dead_letter_and_the_later_rows_of_its_key_go_on() -> None:
    class Picky(FakeKinesis):
        def put_records(self, **request: Any) -> dict[str, Any]:
            answer = super().put_records(**request)
            for row, result in zip(request["Records"], answer["Records"], strict=True):
                if b'"n":1,' in row["Data"]:
                    self.rows.remove(row)
                    result.update(ErrorCode="ValidationException", ErrorMessage="no")
            return answer

    made = bench(Picky(), write_and_flush(run_of(["a", "b", "b", "a"])))
    assert sorted(row["n"] for row in made.payloads()) == [0, 2, 3]
    assert [letter["reason"] for letter in made.letters()] == ["ValidationException: no"]
    assert made.durable[-1] == Position(3, 0)


def test_nothing_passes_a_refused_row_before_its_letter_is_durable() -> None:
    async def play(made: Bench) -> None:
        faults = [Retryable("no answer")] * 3

        def fail(operation: str, key: str) -> None:
            assert all(position < Position(1, 0) for position in made.durable)
            if faults:
                raise faults.pop()

        made.store.before = fail
        await write_and_flush(run_of(["a"]), run_of(["b"], 1, "x" * 2**20), run_of(["c"], 2))(made)

    made = bench(FakeKinesis(), play)
    assert len(made.letters()) == 1 and made.durable[-1] == Position(2, 0)


def test_a_row_that_is_refused_again_after_a_crash_has_one_letter() -> None:
    async def play(made: Bench) -> None:
        for run in (run_of(["a", "b"], 1, "x" * 2**20), run_of(["b"], 2, "x" * 2**20)):
            writer = made.sink.open(SHARD, made.durable.append, made.fatal.set_result)
            writer.write(run)
            await writer.flush()
            writer.abandon()

    assert [letter["sequence_number"] for letter in bench(FakeKinesis(), play).letters()] == ["1", "2"]


def test_a_release_whose_every_row_is_too_large_ends_the_task_before_its_run_becomes_letters() -> None:
    """Earlier rows keep their state: after a row that ends a run, a new run begins."""

    async def play(made: Bench) -> None:
        made.writer.write(run_of(["a"] * 3, 1, "x" * 2_000_000))
        made.writer.write(run_of(["a"], 4))
        await made.writer.flush()
        made.writer.write(run_of(["a"] * 5, 5, "x" * 2_000_000))
        error = await made.fatal
        assert isinstance(error, Fatal) and "dead_letter.max_consecutive" in str(error) and "\n" not in str(error)

    made = bench(FakeKinesis(), play, Limits(5, 1.0, 1_000, "failures"))
    assert b"penstock_dead_letter_limit_reached 1.0" in made.metrics.exposition()
    assert len(made.letters()) == 3 and made.durable[-1] == Position(4, 0)
