"""A sink to a fake Kinesis, and everything that its writer reports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa
from botocore.exceptions import ClientError

from pipeline.dead_letters.limit import NO_LIMITS, Limits
from pipeline.metrics import Metrics
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Position, Record, Run, Shard
from pipeline.sinks.kinesis import KinesisSink, KinesisWriter
from pipeline.sinks.refused import RefusedLetters
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
