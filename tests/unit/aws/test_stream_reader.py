"""Reading a stream page by page: aggregates as KCL reads them, and a Kinesis that throttles or deletes records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import messages_pb2
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from consumer.aws.stream_reader import arrivals, oldest, payloads, taken_apart
from consumer.local.kinesis.errors import KinesisError, throttled
from pipeline.hash_keys import HashRange, hash_of
from pipeline.kpl import MAGIC
from tests.support.clocked_kinesis import HOUR_MS, ClockedKinesis

STREAM = "events"
SHARD = "shardId-000000000000"
ARRIVED = datetime(2026, 11, 23, 10, 0, 0, 123000, UTC)


def record(data: bytes) -> dict[str, Any]:
    return {"SequenceNumber": "7", "PartitionKey": "own", "Data": data, "ApproximateArrivalTimestamp": ARRIVED}


def sealed(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def aggregate(
    *records: tuple[int, int | None], keys: tuple[str, ...] = ("a", "b"), hashes: tuple[str, ...] = ()
) -> Any:
    """Each record: the numbers of its key and of its explicit hash key."""
    message = messages_pb2.AggregatedRecord(partition_key_table=keys, explicit_hash_key_table=hashes)
    for key, hash_key in records:
        message.records.add(partition_key_index=key, explicit_hash_key_index=hash_key, data=b"x")
    return record(sealed(message.SerializeToString()))


def keys_of(given: Any) -> list[tuple[int, str | None]]:
    return [(each.position.sub, each.partition_key) for each in taken_apart(given)]


def test_an_aggregate_is_its_records_whichever_shard_they_are_of() -> None:
    whole = aggregate((0, None), (1, None), (0, 0), hashes=(str(2**128 - 1),))
    assert keys_of(whole) == [(0, "a"), (1, "b"), (2, "a")]
    assert {each.arrived_ms for each in taken_apart(whole)} == {round(ARRIVED.timestamp() * 1000)}
    aggregator = RecordAggregator()
    aggregator.add_user_record("by the library", b"x")
    assert keys_of(record(aggregator.clear_and_get().get_contents()[2])) == [(0, "by the library")]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", MAGIC, sealed(b""), sealed(b"\xff\xff"), sealed(b"\x1a\x7f"), sealed(b"\n\x01a")[:-1] + b"?"],
    ids=["empty", "plain", "no more than magic", "no body", "no message", "cut off", "another checksum"],
)
def test_plain_records_and_unreadable_aggregates_are_one_record(data: bytes) -> None:
    assert keys_of(record(data)) == [(0, "own")]


def test_every_user_record_counts_even_if_it_is_invalid() -> None:
    """The host makes a dead letter of each record that cannot be delivered; KCL would drop them, or end."""
    assert keys_of(aggregate((0, None), (9, None), (1, None))) == [(0, "a"), (1, None), (2, "b")]
    assert keys_of(aggregate((0, None), (2**64 - 1, None))) == [(0, "a"), (1, None)]
    assert keys_of(aggregate((0, None), (1, 0))) == [(0, "a"), (1, "b")]
    assert keys_of(aggregate((0, None), (1, 0), hashes=("1_0",))) == [(0, "a"), (1, "b")]
    assert keys_of(aggregate((0, None), (1, 0), hashes=(str(2**128),))) == [(0, "a"), (1, "b")]
    assert keys_of(record(sealed(b"\n\x01a\x1a\x02\x08\x00"))) == [(0, None)]


def test_a_misplaced_aggregate_is_reported_once_and_still_taken_apart() -> None:
    told: list[int] = []

    def found(given: Any, first: int, last: int) -> int:
        told.clear()
        within = HashRange(first, last)
        assert list(taken_apart(given, within, lambda: told.append(1))) == list(taken_apart(given))
        return len(told)

    lower, upper = sorted([hash_of("a"), hash_of("b")])
    both = aggregate((0, None), (1, None), (0, None))
    assert found(both, lower, upper) == 0
    assert found(both, lower + 1, upper) == found(both, lower, upper - 1) == 1
    explicit = aggregate((0, None), (1, 0), (1, 0), hashes=("7",))
    assert found(explicit, 7, 2**128) == 0 and found(explicit, 8, 2**128) == 1
    assert found(record(b"{}"), 8, 8) == 0


def test_an_aggregate_of_no_user_record_is_one_record() -> None:
    assert keys_of(aggregate()) == [(0, "own")]


def test_a_record_may_be_without_a_key() -> None:
    without = record(b"{}")
    del without["PartitionKey"]
    assert keys_of(without) == [(0, None)]


def test_keys_that_are_not_text_are_decoded_like_java() -> None:
    assert keys_of(record(sealed(b"\n\x02a\xff\x1a\x05\x08\x00\x1a\x01x"))) == [(0, "a\ufffd")]


@given(
    st.one_of(st.binary(max_size=60).map(sealed), st.binary(max_size=60).map(lambda tail: sealed(b"\n\x01k" + tail)))
)
def test_any_bytes_are_records_or_none(data: bytes) -> None:
    found = list(taken_apart(record(data)))
    assert [each.position.sub for each in found] == list(range(len(found)))


# -- reading


@pytest.fixture
def kinesis() -> Iterator[ClockedKinesis]:
    clocked = ClockedKinesis()
    clocked.client.create_stream(StreamName=STREAM, ShardCount=1)
    clocked.now_ms += 1000
    yield clocked
    clocked.client.close()


def put(kinesis: ClockedKinesis, count: int) -> list[int]:
    entries = [{"Data": b"x", "PartitionKey": "key"}] * count
    answer = kinesis.client.put_records(StreamName=STREAM, Records=entries)
    return [int(each["SequenceNumber"]) for each in answer["Records"]]


def pages_of(number: int) -> Callable[[str, dict[str, Any]], None]:
    def before(operation: str, request: dict[str, Any]) -> None:
        if operation == "GetRecords":
            request["Limit"] = number

    return before


def read(kinesis: ClockedKinesis, sleep: Callable[[float], object] = lambda seconds: None) -> list[int]:
    pages = arrivals(kinesis.client, STREAM, SHARD, sleep=sleep)
    return [each.position.sequence for each in chain.from_iterable(pages)]


def test_everything_is_read_once_in_its_order_however_many_pages_there_are(kinesis: ClockedKinesis) -> None:
    numbers = put(kinesis, 20)
    kinesis.before = pages_of(3)
    told: list[int] = []
    pages = list(map(list, arrivals(kinesis.client, STREAM, SHARD, tell=told.append, sleep=lambda seconds: None)))
    assert [each.position.sequence for each in chain.from_iterable(pages)] == numbers
    assert told == [3, 3, 3, 3, 3, 3, 2]


def test_a_throttled_read_is_tried_again(kinesis: ClockedKinesis) -> None:
    numbers = put(kinesis, 5)
    slept: list[float] = []
    kinesis.before = lambda operation, request: busy(len(slept) < 2)
    assert read(kinesis, slept.append) == numbers
    assert slept == [1.0, 1.0]


def test_a_read_that_stays_throttled_is_an_error_in_the_end(kinesis: ClockedKinesis) -> None:
    slept: list[float] = []
    kinesis.before = lambda operation, request: busy(True)
    with pytest.raises(ClientError, match="too fast"):
        read(kinesis, slept.append)
    assert len(slept) == 119


def busy(yes: bool) -> None:
    if yes:
        raise throttled("too fast")


def test_an_expired_iterator_is_replaced_after_the_last_record_read(kinesis: ClockedKinesis) -> None:
    numbers = put(kinesis, 7)
    asked = iter(range(100))

    def before(operation: str, request: dict[str, Any]) -> None:
        pages_of(3)(operation, request)
        if operation == "GetRecords" and next(asked) in (0, 2):
            raise KinesisError("ExpiredIteratorException", "too old")

    kinesis.before = before
    assert read(kinesis) == numbers
    assert kinesis.calls["GetShardIterator"] == 3


def test_the_oldest_record_moves_on_as_the_retention_period_passes(kinesis: ClockedKinesis) -> None:
    put(kinesis, 3)
    kinesis.now_ms += 23 * HOUR_MS
    later = put(kinesis, 2)
    kinesis.now_ms += 2 * HOUR_MS
    assert oldest(kinesis.client, STREAM, SHARD) == (later[0], 0)
    kinesis.now_ms += 24 * HOUR_MS
    assert oldest(kinesis.client, STREAM, SHARD) is None


def test_a_shard_that_is_forgotten_meanwhile_has_no_more_pages(kinesis: ClockedKinesis) -> None:
    put(kinesis, 6)
    kinesis.client.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    kinesis.now_ms += 1000
    kinesis.before = pages_of(3)
    pages = arrivals(kinesis.client, STREAM, SHARD, sleep=lambda seconds: None)
    assert len(list(next(pages))) == 3
    kinesis.now_ms += 25 * HOUR_MS
    assert list(pages) == []


def test_a_deleted_stream_is_an_error(kinesis: ClockedKinesis) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        list(arrivals(kinesis.client, "no-such", SHARD))


def test_payloads_are_the_oldest_with_aggregates_taken_apart(kinesis: ClockedKinesis) -> None:
    aggregator = RecordAggregator()
    for number in range(3):
        aggregator.add_user_record("together", f"part {number}".encode())
    for data in (b"first", aggregator.clear_and_get().get_contents()[2], b"later", b"last"):
        kinesis.client.put_record(StreamName=STREAM, PartitionKey="key", Data=data)

    def found(most: int) -> list[bytes]:
        return list(payloads(kinesis.client, STREAM, SHARD, most, sleep=lambda seconds: None))

    assert found(100) == [b"first", b"part 0", b"part 1", b"part 2", b"later", b"last"]
    assert found(1) == [b"first"]
    assert kinesis.calls["GetShardIterator"] == 2
