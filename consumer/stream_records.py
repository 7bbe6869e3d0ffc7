"""What is on a stream, shard by shard, read from the stream itself and not through KCL: for the auditor.

KPL aggregates are taken apart as KCL does it (``AggregatorUtil`` of KCL 3): what is not a whole aggregate is a plain
record, and an aggregate that holds a record of another shard's hash range is delivered to nobody.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.record import Position
from pipeline.sinks.against import Arrival

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

MAGIC = b"\xf3\x89\x9a\xc2"
"""How an aggregate begins; it ends with the MD5 of what is between (KPL's aggregation format)."""

MD5_BYTES = 16
READ_EVERY_S = 0.25
"""A shard takes five reads a second from everybody together; the consumer needs four."""

THROTTLED_S = 1.0
MS = 1000


@dataclass(frozen=True, slots=True)
class StreamShard:
    """A shard with the range of hash keys that it takes."""

    shard_id: str
    first_hash: int
    last_hash: int


def shards(kinesis: KinesisClient, stream: str) -> list[StreamShard]:
    """Every shard that Kinesis still knows of, closed ones too."""
    listed = kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards")
    return [
        StreamShard(
            shard["ShardId"],
            int(shard["HashKeyRange"]["StartingHashKey"]),
            int(shard["HashKeyRange"]["EndingHashKey"]),
        )
        for shard in listed
    ]


def arrivals(
    kinesis: KinesisClient, stream: str, shard: StreamShard, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[Arrival]]:
    """The shard's records from the oldest to the newest there is now, a page at a time. At most a page is held."""
    start = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON")
    at: str | None = start["ShardIterator"]
    while at:
        try:
            answer = kinesis.get_records(ShardIterator=at)
        except kinesis.exceptions.ProvisionedThroughputExceededException:
            sleep(THROTTLED_S)
            continue
        if answer["Records"]:
            yield [arrival for record in answer["Records"] for arrival in taken_apart(record, shard)]
        at = answer.get("NextShardIterator")
        if answer["MillisBehindLatest"] == 0:
            return
        sleep(READ_EVERY_S)


def taken_apart(record: Any, shard: StreamShard) -> list[Arrival]:
    """The record, or those that it is an aggregate of; none if KCL drops the aggregate."""
    sequence, arrived_ms = int(record["SequenceNumber"]), _ms(record["ApproximateArrivalTimestamp"])
    keys = _aggregated(record["Data"])
    if keys is None:
        return [Arrival(Position(sequence, 0), record["PartitionKey"], arrived_ms)]
    if any(not shard.first_hash <= hash_key <= shard.last_hash for _, hash_key in keys):
        return []
    return [Arrival(Position(sequence, sub), key, arrived_ms) for sub, (key, _) in enumerate(keys)]


def _aggregated(data: bytes) -> list[tuple[str, int]] | None:
    """Partition key and hash key of each record of an aggregate; None if it is none."""
    body, checksum = data[len(MAGIC) : -MD5_BYTES], data[-MD5_BYTES:]
    if not data.startswith(MAGIC) or hashlib.md5(body, usedforsecurity=False).digest() != checksum:
        return None
    messages, decode_error = _protobuf()
    aggregate = messages.AggregatedRecord()
    try:
        aggregate.ParseFromString(body)
        return [_keys(aggregate, record) for record in aggregate.records]
    except (decode_error, IndexError):
        return None


@cache
def _protobuf() -> tuple[Any, type[Exception]]:
    """KPL's messages. The package finds its own modules by putting its folder in front of everybody's path."""
    path = list(sys.path)
    try:
        from aws_kinesis_agg import deaggregator
        from google.protobuf.message import DecodeError
    finally:
        sys.path[:] = path
    return deaggregator.messages_pb2, DecodeError


def _keys(aggregate: Any, record: Any) -> tuple[str, int]:
    key = str(aggregate.partition_key_table[record.partition_key_index])
    if record.HasField("explicit_hash_key_index"):
        return key, int(aggregate.explicit_hash_key_table[record.explicit_hash_key_index])
    return key, int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")


def _ms(arrived: datetime) -> int:
    return round(arrived.timestamp() * MS)
