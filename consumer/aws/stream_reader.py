"""Reads a stream's shards directly, without KCL: for the auditor.

KPL aggregates are taken apart by the same code as in the host (:mod:`pipeline.kpl`): a record that is not a whole
aggregate is a plain record, an aggregate that cannot be read is one record, and every user record of the others counts,
even if it can only become a dead letter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline import kpl
from pipeline.hash_keys import HashRange
from pipeline.record import Position
from pipeline.retry import Retry
from pipeline.table.compare import Arrival

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

Sleep = Callable[[float], object]

READ_EVERY_S = 0.25
"""Seconds between two reads: a shard allows five reads a second in total, and the consumer needs four."""

GENTLE_S = 1.0
"""Seconds between two reads for commands: leaves the application four of a shard's five reads a second."""

PAGE = 10_000
"""Maximum number of records of one read."""

THROTTLES = frozenset(
    {
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
    }
)


def _throttled(error: Exception) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in THROTTLES


READ = Retry(1.0, 1.0, tries=120, on=_throttled)
"""Seconds without a successful read after which reading fails: others read the shard, too."""

MS = 1000


def shards(kinesis: KinesisClient, stream: str) -> list[str]:
    """The ids of all shards that Kinesis lists, with closed ones."""
    return list(kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards[].ShardId"))


def arrivals(
    kinesis: KinesisClient,
    stream: str,
    shard_id: str,
    *,
    tell: Callable[[int], None] = lambda records: None,
    sleep: Sleep = time.sleep,
    within: HashRange | None = None,
    misplaced: Callable[[], None] = lambda: None,
) -> Iterator[Iterator[Arrival]]:
    """The shard's records from the oldest to the present tip, one page at a time.

    Holds at most one page, and one aggregate of it taken apart. ``tell`` is called with the number of records of each
    page, an aggregate as one. Throttled reads are retried. If the shard expires in the meantime, there are no more
    pages. ``misplaced`` is called for every aggregate with a user record whose hash key is not ``within`` the shard's.
    """
    for records in _pages(kinesis, stream, shard_id, PAGE, sleep):
        tell(len(records))
        yield (arrival for record in records for arrival in taken_apart(record, within, misplaced))


def oldest(kinesis: KinesisClient, stream: str, shard_id: str, sleep: Sleep = time.sleep) -> Position | None:
    """The shard's present first record; None if it is empty or has expired."""
    for records in _pages(kinesis, stream, shard_id, 1, sleep):
        return Position(int(records[0]["SequenceNumber"]), 0)
    return None


def payloads(
    kinesis: KinesisClient, stream: str, shard_id: str, most: int, sleep: Sleep = time.sleep
) -> Iterator[bytes]:
    """The payloads of the shard's oldest records, ``most`` or a few more; aggregates are taken apart."""
    found = 0
    for records in _pages(kinesis, stream, shard_id, min(most, PAGE), sleep):
        for record in records:
            parts = _payloads(record, most)
            yield from parts
            found += len(parts)
        if found >= most:
            return


def since(
    kinesis: KinesisClient, stream: str, shard_id: str, at_s: float, most: int, sleep: Sleep = time.sleep
) -> Iterator[Sequence[Any]]:
    """Pages of records, as GetRecords returns them, that arrived from a time on: ``most`` records in total.

    One read a second. Ends at the tip, at the end of a closed shard, or when the shard expires.
    """
    left = most
    for records in _pages(kinesis, stream, shard_id, min(most, PAGE), sleep, at_s=at_s, every_s=GENTLE_S):
        yield records[:left]
        left -= len(records)
        if left <= 0:
            return


def behind(
    kinesis: KinesisClient, stream: str, shard_id: str, sequence: str, sleep: Sleep = time.sleep
) -> Iterator[Sequence[Any]]:
    """Pages of records, as GetRecords returns them, after the one with this number. One read a second."""
    return _pages(kinesis, stream, shard_id, PAGE, sleep, last=sequence, every_s=GENTLE_S)


def at_sequence(
    kinesis: KinesisClient, stream: str, shard_id: str, sequence: str, sleep: Sleep = time.sleep
) -> Any | None:
    """The record with this sequence number, as GetRecords returns it; None if the shard has none."""
    where: Any = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence}
    try:
        found = patiently(sleep, kinesis.get_shard_iterator, StreamName=stream, ShardId=shard_id, **where)
    except kinesis.exceptions.InvalidArgumentException:  # a number that is none of this shard's
        return None
    at = found["ShardIterator"]
    while at:
        answer = patiently(sleep, kinesis.get_records, ShardIterator=at, Limit=1)
        for record in answer["Records"]:
            return record if record["SequenceNumber"] == sequence else None
        if answer["MillisBehindLatest"] == 0:
            return None
        at = answer.get("NextShardIterator")
        sleep(READ_EVERY_S)
    return None


def is_aggregate(record: Any) -> bool:
    """Whether it can be taken apart."""
    return _message(record["Data"]) is not None


def users(record: Any) -> Iterator[tuple[str | None, bytes]]:
    """Return key and payload of the record, or of each of its user records if it is an aggregate."""
    message = _message(record["Data"])
    if message is None:
        yield record.get("PartitionKey") or None, record["Data"]
        return
    for data, key, _, _ in message.users():
        yield key, data


def _pages(
    kinesis: KinesisClient,
    stream: str,
    shard_id: str,
    limit: int,
    sleep: Sleep,
    *,
    at_s: float | None = None,
    last: str = "",
    every_s: float = READ_EVERY_S,
) -> Iterator[Sequence[Any]]:
    """Yield pages from the oldest record, from a time, or after ``last``, to the end of the shard. No page is empty."""
    try:
        at = _iterator(kinesis, stream, shard_id, last, sleep, at_s)
        while True:
            try:
                answer = patiently(sleep, kinesis.get_records, ShardIterator=at, Limit=limit)
            except kinesis.exceptions.ExpiredIteratorException:  # five minutes after it was made
                at = _iterator(kinesis, stream, shard_id, last, sleep, at_s)
                continue
            if answer["Records"]:
                last = answer["Records"][-1]["SequenceNumber"]
                yield answer["Records"]
            if answer["MillisBehindLatest"] == 0 or not answer.get("NextShardIterator"):
                return
            at = answer["NextShardIterator"]
            sleep(every_s)
    except kinesis.exceptions.ResourceNotFoundException:
        if shard_id in shards(kinesis, stream):
            raise


def _iterator(
    kinesis: KinesisClient, stream: str, shard_id: str, last: str, sleep: Sleep, at_s: float | None = None
) -> str:
    """Return an iterator after record ``last``, else at a time, else at the oldest record."""
    where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
    if at_s is not None:
        where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at_s}
    if last:
        where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": last}
    answer = patiently(sleep, kinesis.get_shard_iterator, StreamName=stream, ShardId=shard_id, **where)
    return str(answer["ShardIterator"])


def patiently(sleep: Sleep, call: Callable[..., Any], **request: Any) -> Any:
    """Return the answer; retry while Kinesis throttles."""
    return READ.call_blocking(partial(call, **request), sleep=sleep)


def taken_apart(
    record: Any, within: HashRange | None = None, misplaced: Callable[[], None] = lambda: None
) -> Iterator[Arrival]:
    """The record, or the user records of an aggregate, one at a time."""
    sequence, arrived_ms = int(record["SequenceNumber"]), _ms(record["ApproximateArrivalTimestamp"])
    message = _message(record["Data"])
    if message is None:
        yield Arrival(Position(sequence, 0), record.get("PartitionKey") or None, arrived_ms)
        return
    message.within = within
    for sub, (_, partition_key, _, _) in enumerate(message.users()):
        yield Arrival(Position(sequence, sub), partition_key, arrived_ms)
    if message.misplaced:
        misplaced()


def _payloads(record: Any, most: int) -> list[bytes]:
    """Return the arrival of the record, or of the first of its user records that can be delivered."""
    message = _message(record["Data"])
    if message is None:
        return [record["Data"]]
    return [data for data, _, _, fault in islice(message.users(), most) if not fault]


def _message(data: bytes) -> kpl.AggregateMessage | None:
    """None for a record that is not an aggregate."""
    try:
        return kpl.message(data)
    except kpl.Malformed:
        return None


def _ms(arrived: datetime) -> int:
    return round(arrived.timestamp() * MS)
