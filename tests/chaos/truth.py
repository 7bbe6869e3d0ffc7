"""What is on a stream, read from the stream itself: a put whose answer was lost may be there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_kinesis_agg import messages_pb2

from pipeline.record import Position

MAGIC = b"\xf3\x89\x9a\xc2"
"""How an aggregate of the KPL begins; it ends with the MD5 of what is between."""

MD5_BYTES = 16


@dataclass(slots=True)
class Truth:
    """``payloads`` by record id. ``raw``: the records as Kinesis has them. ``ends``: where each shard ends."""

    payloads: dict[str, bytes] = field(default_factory=dict)
    raw: dict[tuple[str, str], bytes] = field(default_factory=dict)
    ends: dict[str, Position] = field(default_factory=dict)
    shards: int = 0

    def missing(self, answered: Mapping[tuple[str, str], bytes]) -> list[str]:
        """What Kinesis said it took, and has not."""
        return ["/".join(place) for place, data in answered.items() if self.raw.get(place) != data]


def read(kinesis: Any, stream: str) -> Truth:
    """Everything on all shards, closed ones too."""
    truth = Truth()
    for shard in kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards"):
        shard_id = shard["ShardId"]
        truth.shards += 1
        for record in records(kinesis, stream, shard_id):
            number = record["SequenceNumber"]
            truth.raw[shard_id, number] = record["Data"]
            for sub, data in enumerate(taken_apart(record["Data"])):
                truth.payloads[f"{stream}/{shard_id}/{number}/{sub}"] = data
                truth.ends[shard_id] = Position(int(number), sub)
    return truth


def records(kinesis: Any, stream: str, shard_id: str) -> Iterator[Mapping[str, Any]]:
    """From the oldest to the newest there is now."""
    start = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    at = start["ShardIterator"]
    while at:
        answer = kinesis.get_records(ShardIterator=at)
        yield from answer["Records"]
        at = answer.get("NextShardIterator")
        if answer["MillisBehindLatest"] == 0:
            return


def taken_apart(data: bytes) -> Sequence[bytes]:
    """The records in an aggregate, or this one."""
    body, checksum = data[len(MAGIC) : -MD5_BYTES], data[-MD5_BYTES:]
    if not data.startswith(MAGIC) or hashlib.md5(body).digest() != checksum:
        return [data]
    aggregate = messages_pb2.AggregatedRecord()
    aggregate.ParseFromString(body)
    return [bytes(record.data) for record in aggregate.records]
