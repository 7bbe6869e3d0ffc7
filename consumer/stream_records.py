"""What is on a stream, shard by shard, read from the stream itself and not through KCL: for the auditor.

KPL aggregates are taken apart as KCL does it (``AggregatorUtil`` of KCL 3) when it is not told the shard's range of
hash keys, which ``consumer.properties`` sees to: what is not a whole aggregate is a plain record, and an aggregate is
delivered whole, whichever shard its keys are of. One with a record that names a key that is not there ends before it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.record import Position
from pipeline.sinks.against import Arrival

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

Sleep = Callable[[float], object]

MAGIC = b"\xf3\x89\x9a\xc2"
"""How an aggregate begins; it ends with the MD5 of what is between (KPL's aggregation format)."""

MD5_BYTES = 16
NUMBER = re.compile(r"[+-]?\d+")
HASH_KEYS = 1 << 128
READ_EVERY_S = 0.25
"""A shard takes five reads a second from everybody together; the consumer needs four."""

PAGE = 10_000
"""As many records as one read may have."""

THROTTLES = frozenset(
    {
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
    }
)
THROTTLED_S = 1.0
TRIES = 120
"""Others read the shard, too. Two minutes without a single read are an error."""

MS = 1000


def shards(kinesis: KinesisClient, stream: str) -> list[str]:
    """The ids of every shard that Kinesis still knows of, closed ones too."""
    return list(kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards[].ShardId"))


def arrivals(
    kinesis: KinesisClient,
    stream: str,
    shard_id: str,
    *,
    tell: Callable[[int], None] = lambda records: None,
    sleep: Sleep = time.sleep,
) -> Iterator[Iterator[Arrival]]:
    """The shard's records from the oldest to the newest there is now, a page at a time.

    At most a page is held, and one aggregate of it taken apart. ``tell`` hears how many records, aggregates as one,
    each page has. Throttled reads are tried again. A shard that Kinesis forgets meanwhile has no more pages.
    """
    for records in _pages(kinesis, stream, shard_id, PAGE, sleep):
        tell(len(records))
        yield (arrival for record in records for arrival in taken_apart(record))


def oldest(kinesis: KinesisClient, stream: str, shard_id: str, sleep: Sleep = time.sleep) -> Position | None:
    """Where the shard begins now; None if it is empty, or forgotten."""
    for records in _pages(kinesis, stream, shard_id, 1, sleep):
        return Position(int(records[0]["SequenceNumber"]), 0)
    return None


def payloads(
    kinesis: KinesisClient, stream: str, shard_id: str, most: int, sleep: Sleep = time.sleep
) -> Iterator[bytes]:
    """What the shard's records hold, from the oldest on, ``most`` or a few more; aggregates are taken apart."""
    found = 0
    for records in _pages(kinesis, stream, shard_id, min(most, PAGE), sleep):
        for record in records:
            parts = _payloads(record)
            yield from parts
            found += len(parts)
        if found >= most:
            return


def _pages(kinesis: KinesisClient, stream: str, shard_id: str, limit: int, sleep: Sleep) -> Iterator[Sequence[Any]]:
    """From the oldest record on to the tip, or to the end of a closed shard. No page is empty."""
    last = ""
    try:
        at = _iterator(kinesis, stream, shard_id, last, sleep)
        while True:
            try:
                answer = patiently(sleep, kinesis.get_records, ShardIterator=at, Limit=limit)
            except kinesis.exceptions.ExpiredIteratorException:  # five minutes after it was made
                at = _iterator(kinesis, stream, shard_id, last, sleep)
                continue
            if answer["Records"]:
                last = answer["Records"][-1]["SequenceNumber"]
                yield answer["Records"]
            if answer["MillisBehindLatest"] == 0 or not answer.get("NextShardIterator"):
                return
            at = answer["NextShardIterator"]
            sleep(READ_EVERY_S)
    except kinesis.exceptions.ResourceNotFoundException:
        if shard_id in shards(kinesis, stream):
            raise


def _iterator(kinesis: KinesisClient, stream: str, shard_id: str, last: str, sleep: Sleep) -> str:
    """Behind record ``last``, or at the oldest."""
    where: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
    if last:
        where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": last}
    answer = patiently(sleep, kinesis.get_shard_iterator, StreamName=stream, ShardId=shard_id, **where)
    return str(answer["ShardIterator"])


def patiently(sleep: Sleep, call: Callable[..., Any], **request: Any) -> Any:
    """The answer; while Kinesis throttles, ask again."""
    from botocore.exceptions import ClientError

    for _ in range(TRIES - 1):
        try:
            return call(**request)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in THROTTLES:
                raise
        sleep(THROTTLED_S)
    return call(**request)


def taken_apart(record: Any) -> list[Arrival]:
    """The record, or those that it is an aggregate of and that KCL delivers."""
    sequence, arrived_ms = int(record["SequenceNumber"]), _ms(record["ApproximateArrivalTimestamp"])
    aggregate = _aggregate(record["Data"])
    if aggregate is None:
        return [Arrival(Position(sequence, 0), record["PartitionKey"], arrived_ms)]
    found: list[Arrival] = []
    for each in aggregate.records:
        partition_key = _named(aggregate.partition_key_table, each.partition_key_index)
        hash_key = _hash_key(aggregate, each)
        if partition_key is None or hash_key is None:
            break
        if not 0 <= hash_key < HASH_KEYS:
            return []
        found.append(Arrival(Position(sequence, len(found)), partition_key, arrived_ms))
    return found


def _payloads(record: Any) -> list[bytes]:
    """Of the record, or of those that :func:`taken_apart` finds in it."""
    aggregate = _aggregate(record["Data"])
    if aggregate is None:
        return [record["Data"]]
    return [each.data for each, _ in zip(aggregate.records, taken_apart(record), strict=False)]


def _aggregate(data: bytes) -> Any:
    """KPL's message; None if it is none."""
    body, checksum = data[len(MAGIC) : -MD5_BYTES], data[-MD5_BYTES:]
    if not data.startswith(MAGIC) or not body or _md5(body) != checksum:
        return None
    messages, decode_error = _protobuf()
    aggregate = messages.AggregatedRecord()
    try:
        aggregate.ParseFromString(body)
    except decode_error:
        return None
    return aggregate if aggregate.IsInitialized() else None


IMPORTING = Lock()


@cache
def _protobuf() -> tuple[Any, type[Exception]]:
    """KPL's messages. The package finds its own modules by putting its folder in front of everybody's path."""
    with IMPORTING:
        path = list(sys.path)
        try:
            from aws_kinesis_agg import deaggregator
            from google.protobuf.message import DecodeError
        finally:
            sys.path[:] = path
    return deaggregator.messages_pb2, DecodeError


def _hash_key(aggregate: Any, record: Any) -> int | None:
    """A record's own hash key, 0 if it leaves that to its partition key; None if it is not there, or no number."""
    if not record.HasField("explicit_hash_key_index"):
        return 0
    number = _named(aggregate.explicit_hash_key_table, record.explicit_hash_key_index)
    return int(number) if number is not None and NUMBER.fullmatch(number) else None


def _named(table: Any, index: int) -> str | None:
    """What is not UTF-8 comes out of protobuf as bytes here, and with replacements in Java."""
    if index >= len(table):
        return None
    key = table[index]
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _ms(arrived: datetime) -> int:
    return round(arrived.timestamp() * MS)
