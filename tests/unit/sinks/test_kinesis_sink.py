"""The sink with a Kinesis that refuses, fails and stalls as the test says."""

from __future__ import annotations

import asyncio
import base64
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.dead_letters.limit import NO_LIMITS, Limits
from pipeline.errors import Fatal, UserError
from pipeline.metrics import Metrics
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Position, Record, Run, Shard
from pipeline.sinks.kinesis import KinesisSink, KinesisWriter
from pipeline.sinks.put_back_off import SEND
from pipeline.sinks.refused import RefusedLetters
from pipeline.stores.base import Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema

SHARD = Shard("source", 1, "shardId-000000000000")
NAME = "kinesis:enriched"
DEADLINE_S = 20


class FakeKinesis:
    """Accepts rows. ``answers``: the result of each call: an error to raise, or what to accept. Default: all."""

    def __init__(self, *answers: BaseException | Callable[[int], bool]) -> None:
        self.answers = list(answers)
        self.calls: list[list[dict[str, Any]]] = []
        self.rows: list[dict[str, Any]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.summary: dict[str, Any] = {"StreamStatus": "ACTIVE"}
        self.missing = False

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        self.entered.set()
        assert self.open.wait(DEADLINE_S)
        self.calls.append(Records)
        answer = self.answers.pop(0) if self.answers else bool
        if isinstance(answer, BaseException):
            raise answer
        results: list[dict[str, Any]] = []
        for number, record in enumerate(Records, 1):
            if answer(number):
                self.rows.append(record)
                results.append({"SequenceNumber": str(len(self.rows)), "ShardId": "shardId-000000000000"})
            else:
                results.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"})
        return {"FailedRecordCount": 0, "Records": results}

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        if self.missing:
            raise refusal("ResourceNotFoundException")
        return {"StreamDescriptionSummary": self.summary}


class Bench:
    """A sink on a fake, one writer, and everything that the writer reported."""

    def __init__(self, kinesis: FakeKinesis, limits: Limits = NO_LIMITS) -> None:
        self.kinesis = kinesis
        self.store = MemoryStore()
        self.durable: list[Position] = []
        self.waits: list[float] = []
        self.fatal: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.metrics = Metrics(Outages(lambda: sum(self.waits)))
        letters = RefusedLetters(self.store, TableSchema(pa.schema([("n", pa.int64())]), "source", "model@1"), NAME)
        self.sink = KinesisSink(
            lambda: kinesis,
            "enriched",
            table,
            events=self.metrics.sinks.of(NAME),
            outages=self.metrics.outages,
            letters=letters,
            limits=limits,
            give_up_after_s=3600,
            sleep=self.wait,
        )
        self.writer: KinesisWriter = self.sink.open(SHARD, self.durable.append, self.fatal.set_result)

    async def wait(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        await asyncio.sleep(0)

    def payloads(self) -> list[Any]:
        return [orjson.loads(row["Data"]) for row in self.kinesis.rows]

    def letters(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for key in sorted(self.store.objects) for line in self.body(key).splitlines()]

    def body(self, key: str) -> bytes:
        return self.store.objects[key][0]


def bench(kinesis: FakeKinesis, play: Callable[[Bench], Awaitable[None]], limits: Limits = NO_LIMITS) -> Bench:
    async def played() -> Bench:
        made = Bench(kinesis, limits)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await play(made)
        finally:
            kinesis.open.set()
            await made.sink.close()
        return made

    return asyncio.run(played())


def table(run: Run) -> pa.Table:
    slices = [
        record.outcome.table.slice(record.outcome.row, 1).add_column(
            0, "record_id", pa.array([record.record_id("source")])
        )
        for record in run.records
        if isinstance(record.outcome, Enriched)
    ]
    return pa.Table.from_batches(slices)


def run_of(keys: Sequence[str | None], start: int = 0, value: str = "v") -> Run:
    """A run of one record per key; None is a dead one."""
    batch = pa.RecordBatch.from_pydict({"n": list(range(start, start + len(keys))), "value": [value] * len(keys)})
    records: list[Record] = []
    payloads = [f"payload {start + row}".encode() for row in range(len(keys))]
    for row, key in enumerate(keys):
        record = Record(SHARD.shard_id, b"", key or "dead", str(start + row), 0, 0)
        record.outcome = Dead(b"", "bad", "", 1) if key is None else Enriched(batch, row)
        records.append(record)
    return Run(SHARD, records, payloads)


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "told by the fake"}}, "PutRecords")


def write_and_flush(*runs: Run) -> Callable[[Bench], Awaitable[None]]:
    async def play(made: Bench) -> None:
        for run in runs:
            made.writer.write(run)
        await made.writer.flush()
        assert made.writer.backlog_bytes == 0

    return play


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
