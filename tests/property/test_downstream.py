"""For any result of a model and any key: the row goes downstream, or the dead letter says why not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import orjson
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.hash_keys import KEY_CHARACTERS
from pipeline.record import Dead, Enriched, Position, Record, Run, Shard
from pipeline.sinks.json_rows import Unwritable, encode_each
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.partition_keys import key_for
from pipeline.sinks.refused import RefusedLetters
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema

SHARD = Shard("source", 1, "shardId-000000000000")
ROW_BYTES = 400

keys = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "b", "k" * 256, "k" * 257, "é" * 256, "\U0001f600" * 128, "\U0001f600" * 129]),
    st.text(st.characters(exclude_categories=()), max_size=300),
)
texts = st.text(max_size=20)
floats = st.floats(allow_nan=True, allow_infinity=True)
scalars: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]] = st.sampled_from(
    [
        (pa.string(), texts),
        (pa.large_string(), texts),
        (pa.binary(), st.binary(max_size=20)),
        (pa.bool_(), st.booleans()),
        (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float16(), st.floats(width=16)),
        (pa.float32(), st.floats(width=32)),
        (pa.float64(), floats),
        (pa.decimal128(20, 3), st.decimals(-(10**15), 10**15, places=3)),
        *(
            (kind, st.integers(-(2**bits), 2**bits - 1))
            for kind, bits in [
                (pa.timestamp("s"), 63),
                (pa.timestamp("ms", "UTC"), 63),
                (pa.timestamp("us", "Europe/Berlin"), 63),
                (pa.timestamp("ns"), 63),
                (pa.timestamp("ns", "Mars/Olympus"), 63),
                (pa.duration("s"), 63),
                (pa.duration("ns"), 63),
                (pa.date32(), 31),
                (pa.time64("us"), 36),
                (pa.time32("s"), 16),
            ]
        ),
    ]
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of(each: tuple[pa.DataType, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
        kind, values = each
        return st.sampled_from(
            [
                (pa.list_(kind), st.lists(values, max_size=3)),
                (pa.list_(kind, 2), st.lists(values, min_size=2, max_size=2)),
                (pa.struct([("x", kind), ("y", pa.int8())]), st.fixed_dictionaries({"x": values, "y": st.none()})),
                (pa.map_(pa.string(), kind), st.lists(st.tuples(texts, values), max_size=2)),
            ]
        )

    return inner.flatmap(of)


columns = st.recursive(scalars, _nested, max_leaves=3)


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(1, 6))
    made: dict[str, pa.Array] = {}
    for number in range(draw(st.integers(1, 3))):
        kind, values = draw(columns)
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        try:
            made[f"column_{number}"] = pa.array(drawn, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            made[f"column_{number}"] = pa.nulls(rows, kind)
    return pa.RecordBatch.from_pydict(made)


class Strict:
    """A Kinesis that accepts what AWS's accepts, and refuses a whole call because of one bad record."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:  # noqa: N803  # boto3's
        return {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE"}}

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's
        for record in Records:
            key = record["PartitionKey"]
            assert 1 <= len(key.encode("utf-16-le")) // 2 <= KEY_CHARACTERS
            assert len(key.encode()) + len(record["Data"]) <= ROW_BYTES
            self.taken.append((key, orjson.loads(record["Data"])))
        return {"Records": [{"SequenceNumber": "1", "ShardId": "0"} for _ in Records]}


async def sent(run: Run, schema: TableSchema, kinesis: Strict, store: MemoryStore) -> list[Position]:
    durable: list[Position] = []
    fatal: list[BaseException] = []
    sink = KinesisSink(
        lambda: kinesis,
        "enriched",
        lambda each: schema.table(each.records),
        letters=RefusedLetters(store, schema, "kinesis:enriched"),
    )
    sink.row_bytes = ROW_BYTES
    writer = sink.open(SHARD, durable.append, fatal.append)
    try:
        writer.write(run)
        await asyncio.wait_for(writer.flush(), 20)
        assert not fatal
    finally:
        writer.abandon()
        await sink.close()
    return durable


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.data())
def test_every_record_is_a_row_or_a_dead_letter_of_the_sink_in_order_per_key(
    batch: pa.RecordBatch, data: st.DataObject
) -> None:
    records = []
    for row in range(batch.num_rows):
        record = Record(SHARD.shard_id, b"", data.draw(keys), str(row), 0, 0)
        record.outcome = Dead(b"", "bad", "", 1) if data.draw(st.integers(0, 5)) == 0 else Enriched(batch, row)
        records.append(record)
    payloads = [f"payload {row}".encode() for row in range(len(records))]
    kinesis, store = Strict(), MemoryStore()
    durable = asyncio.run(sent(Run(SHARD, records, payloads), TableSchema(batch.schema, "source", "1"), kinesis, store))
    assert durable[-1] == Position(len(records) - 1, 0)
    rows = [int(row["sequence_number"]) for _, row in kinesis.taken]
    letters = [int(orjson.loads(body)["sequence_number"]) for body, _ in store.objects.values()]
    enriched = [row for row, record in enumerate(records) if isinstance(record.outcome, Enriched)]
    assert sorted(rows + letters) == enriched
    by_key: dict[Any, list[int]] = defaultdict(list)
    for _, sent_row in kinesis.taken:
        by_key[sent_row["partition_key"] or sent_row["record_id"]].append(int(sent_row["sequence_number"]))
    assert all(each == sorted(each) for each in by_key.values())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches())
def test_a_row_that_json_cannot_hold_takes_no_other_along(batch: pa.RecordBatch) -> None:
    table = pa.Table.from_batches([batch])
    together = encode_each(table)
    alone = [encode_each(table.slice(row, 1))[0] for row in range(table.num_rows)]
    assert [type(each) for each in together] == [type(each) for each in alone]
    for each in together:
        assert isinstance(each, Unwritable) or orjson.loads(each).keys() == set(table.column_names)


@given(keys, keys)
def test_rows_of_a_key_share_a_key_and_others_do_not(one: str | None, other: str | None) -> None:
    first = Record(SHARD.shard_id, b"", one, "1", 0, 0)
    second = Record(SHARD.shard_id, b"", other, "2", 0, 0)
    assert (key_for(first, "s") == key_for(second, "s")) == (bool(one) and one == other)
