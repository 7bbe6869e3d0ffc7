"""The sink with a Kinesis that validates its input: moto's, through boto3's own validation and encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import boto3
import orjson
import pyarrow as pa
import pytest
from moto import mock_aws

from consumer.local.process import LocalAWS
from pipeline.errors import UserError
from pipeline.record import Enriched, Position, Record, Run, Shard
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema

SHARD = Shard("source", 1, "shardId-000000000000")
ROWS = 1200
KEYS = 700


@pytest.fixture
def kinesis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("kinesis", region_name="us-east-1")
        client.create_stream(StreamName="enriched", ShardCount=2)
        yield client


def table(run: Run) -> pa.Table:
    batches = [record.outcome.table for record in run.records if isinstance(record.outcome, Enriched)]
    return pa.Table.from_batches(batches[:1])


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """The local AWS, which refuses what Kinesis refuses, with a stream of 1 MiB records."""
    with LocalAWS(limits=False) as aws:
        client = aws.client("kinesis")
        client.create_stream(StreamName="enriched", ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName="enriched", WaiterConfig={"Delay": 1})
        yield client


def test_rows_that_the_stream_cannot_carry_are_dead_letters_and_rows_with_any_key_arrive(
    local: Any,
) -> None:
    """The sink assumes 10 MiB, as if the stream's limit had been lowered since; the stream's answer counts."""
    keys = [None, "", "k", "k" * 257, "\U0001f600" * 256, "key"]
    values = ["v", "v", "v", "v", "v", "x" * 2**20]
    batch = pa.RecordBatch.from_pydict({"value": values})
    records = []
    for n, key in enumerate(keys):
        record = Record(SHARD.shard_id, b"", key, str(n), 0, 0)
        record.outcome = Enriched(batch, n)
        records.append(record)
    schema, store = TableSchema(batch.schema, "source", "1"), MemoryStore()
    durable: list[Position] = []

    async def deliver() -> None:
        sink = KinesisSink(
            lambda: local,
            "enriched",
            lambda run: schema.table(run.records),
            letters=RefusedLetters(store, schema, "kinesis:enriched"),
        )
        sink.row_bytes = 10 * 2**20
        writer = sink.open(SHARD, durable.append, lambda error: pytest.fail(str(error)))
        writer.write(Run(SHARD, records, [b"payload"] * len(records)))
        await asyncio.wait_for(writer.flush(), 60)
        writer.abandon()
        await sink.close()

    asyncio.run(deliver())
    found = [row for _, row in everything_on(local, "enriched", until_ms=0)]
    assert sorted(int(row["sequence_number"]) for row in found) == [0, 1, 2, 3, 4]
    assert {row["partition_key"] for row in found} == set(keys[:5])
    [letter] = [orjson.loads(body) for body, _ in store.objects.values()]
    assert letter["sequence_number"] == "5" and letter["sink"] == "kinesis:enriched"
    assert durable[-1] == Position(5, 0)


def run_of_rows() -> Run:
    batch = pa.RecordBatch.from_pydict(
        {
            "record_id": [f"source/{SHARD.shard_id}/{n}/0" for n in range(ROWS)],
            "embedding": pa.array([[n, 0.1] for n in range(ROWS)], pa.list_(pa.float32(), 2)),
            "raw": [b"\x00"] * ROWS,
        }
    )
    records = []
    for n in range(ROWS):
        record = Record(SHARD.shard_id, b"", f"key-{n % KEYS}", str(n), 0, 0)
        record.outcome = Enriched(batch, n)
        records.append(record)
    return Run(SHARD, records)


def everything_on(client: Any, stream: str, until_ms: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Key and row of each record, per shard, in the order in which a consumer reads them."""
    found = []
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            answer = client.get_records(ShardIterator=iterator)
            found += [(record["PartitionKey"], orjson.loads(record["Data"])) for record in answer["Records"]]
            iterator = answer["NextShardIterator"]
            if not answer["Records"] and until_ms in {None, answer["MillisBehindLatest"]}:
                break
    return found


def test_rows_are_read_back_once_each_and_in_order_per_key(kinesis: Any) -> None:
    durable: list[Position] = []

    async def deliver() -> None:
        sink = KinesisSink(lambda: kinesis, "enriched", table)
        await sink.check()
        writer = sink.open(SHARD, durable.append, lambda error: pytest.fail(str(error)))
        writer.write(run_of_rows())
        await asyncio.wait_for(writer.flush(), 60)
        writer.abandon()
        await sink.close()

    asyncio.run(deliver())
    found = everything_on(kinesis, "enriched")
    assert sorted(int(row["embedding"][0]) for _, row in found) == list(range(ROWS))
    for n in range(ROWS - KEYS):
        assert [row["embedding"][0] for key, row in found if key == f"key-{n}"] == [n, n + KEYS]
    assert found[0][1]["record_id"].startswith("source/shardId-000000000000/")
    assert found[0][1]["raw"] == "AA=="
    assert durable[-1] == Position(ROWS - 1, 0)


def test_check_distinguishes_an_existing_stream_from_a_missing_one(kinesis: Any) -> None:
    async def check(stream: str) -> None:
        sink = KinesisSink(lambda: kinesis, stream, table)
        try:
            await sink.check()
        finally:
            await sink.close()

    asyncio.run(check("enriched"))
    with pytest.raises(UserError, match="no such stream") as error:
        asyncio.run(check("another"))
    assert "\n" not in str(error.value)
