"""The input of a careful reader: pages of GetRecords, from fakes."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.poison.pages import record_of
from consumer.testing import aggregate
from consumer.testing.aggregates import sealed
from pipeline.aggregate import Aggregate, aggregate_or_record
from pipeline.record import Dead, Position, Record

SHARD = "shardId-000000000000"


def raw(data: bytes, **more: Any) -> dict[str, Any]:
    arrived = datetime.fromtimestamp(1.5, UTC)
    return {"SequenceNumber": "77", "Data": data, "ApproximateArrivalTimestamp": arrived, **more}


def test_a_plain_record_is_as_a_session_has_it() -> None:
    record = record_of(SHARD, raw(b"one", PartitionKey="key"))
    assert (record.data, record.partition_key, record.position) == (b"one", "key", Position(77, 0))
    assert (record.arrived_ms, record.whole, record.outcome) == (1500, True, None)


def test_a_record_may_have_no_partition_key() -> None:
    assert record_of(SHARD, raw(b"one")).partition_key is None


def test_an_aggregate_is_taken_apart_in_pieces_and_only_its_last_is_whole() -> None:
    record = aggregate_or_record(record_of(SHARD, raw(aggregate([b"a", b"b", b"c"], keys=["inner"]))))
    assert isinstance(record, Aggregate)
    taken = [*record.take(2, 1 << 20), *record.take(2, 1 << 20)]
    assert [(each.data, each.partition_key, each.sub) for each in taken] == [
        (b"a", "inner", 0),
        (b"b", "inner", 1),
        (b"c", "inner", 2),
    ]
    assert [each.whole for each in taken] == [False, False, True]


def test_a_partly_durable_aggregate_continues_after_its_durable_part() -> None:
    record = aggregate_or_record(record_of(SHARD, raw(aggregate([b"a", b"b", b"c"]))))
    assert isinstance(record, Aggregate)
    record.skip(Position(77, 0))
    assert [each.sub for each in record.take(10, 1 << 20)] == [1, 2]


def test_an_aggregate_that_cannot_be_read_is_one_dead_letter() -> None:
    record = aggregate_or_record(record_of(SHARD, raw(sealed(b"\x1a\x7fcut off"))))
    assert isinstance(record.outcome, Dead)
    assert (record.outcome.kind, record.whole) == ("aggregate", True)


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_aggregate_raises_an_error(first: int) -> None:
    for seed in range(first, first + 50):
        expect_records_or_a_letter(seed)


def expect_records_or_a_letter(seed: int) -> None:
    dice = random.Random(seed)
    message = bytearray(aggregate([dice.randbytes(dice.randint(0, 9)) for _ in range(5)])[4:-16])
    for _ in range(dice.randint(1, 4)):
        message[dice.randrange(len(message))] = dice.randrange(256)
    record: Record = aggregate_or_record(record_of(SHARD, raw(sealed(bytes(message[: dice.randint(1, len(message))])))))
    if isinstance(record, Aggregate):
        assert len(record.take(100, 1 << 20)) == record.count
    else:
        assert isinstance(record.outcome, Dead)
