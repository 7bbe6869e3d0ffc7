"""The records on a stream, read from the stream: a put whose answer was lost may be there twice.

Aggregates are read by Google's protobuf, and not by Penstock's own reader, which is under test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aws_kinesis_agg.deaggregator import messages_pb2
from google.protobuf.message import DecodeError

from pipeline.record import Position

MAGIC = b"\xf3\x89\x9a\xc2"
"""The first bytes of a KPL aggregate; it ends with the MD5 of the part in between."""

MD5_BYTES = 16
HASH_KEYS = 2**128


class User(NamedTuple):
    """A record as its producer wrote it. ``broken``: it can only become a dead letter."""

    data: bytes
    broken: bool = False


@dataclass(slots=True)
class Truth:
    """``payloads`` by record id. ``broken``: records of aggregates that become dead letters. ``keyless``: records
    without a partition key. ``raw``: the records as Kinesis has them. ``ends``: where each shard ends."""

    payloads: dict[str, bytes] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    keyless: set[str] = field(default_factory=set)
    raw: dict[tuple[str, str], bytes] = field(default_factory=dict)
    ends: dict[str, Position] = field(default_factory=dict)
    shards: int = 0

    def missing(self, answered: Mapping[tuple[str, str], bytes]) -> list[str]:
        """Records that Kinesis has accepted and does not have."""
        return ["/".join(place) for place, data in answered.items() if self.raw.get(place) != data]


def read(kinesis: Any, stream: str) -> Truth:
    """All records on all shards, including closed ones."""
    truth = Truth()
    for shard in kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards"):
        shard_id = shard["ShardId"]
        truth.shards += 1
        for record in records(kinesis, stream, shard_id):
            number = record["SequenceNumber"]
            truth.raw[shard_id, number] = record["Data"]
            users = taken_apart(record["Data"])
            for sub, (data, is_broken) in enumerate(users):
                record_id = f"{stream}/{shard_id}/{number}/{sub}"
                truth.payloads[record_id] = data
                if "PartitionKey" not in record and users[0].data == record["Data"]:
                    truth.keyless.add(record_id)
                if is_broken:
                    truth.broken.add(record_id)
                truth.ends[shard_id] = Position(int(number), sub)
    return truth


def records(kinesis: Any, stream: str, shard_id: str) -> Iterator[Mapping[str, Any]]:
    """The records from the oldest to the newest."""
    start = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    at = start["ShardIterator"]
    while at:
        answer = kinesis.get_records(ShardIterator=at)
        yield from answer["Records"]
        at = answer.get("NextShardIterator")
        if answer["MillisBehindLatest"] == 0:
            return


def taken_apart(data: bytes) -> Sequence[User]:
    """The records in an aggregate, or this record. An aggregate that cannot be read is one broken record."""
    body, checksum = data[len(MAGIC) : -MD5_BYTES], data[-MD5_BYTES:]
    if not data.startswith(MAGIC) or hashlib.md5(body).digest() != checksum:
        return [User(data)]
    aggregate = messages_pb2.AggregatedRecord()
    try:
        aggregate.ParseFromString(body)
    except DecodeError:
        return [User(data, broken=True)]
    keys = len(aggregate.partition_key_table)
    hash_keys = [_is_hash_key(text) for text in aggregate.explicit_hash_key_table]
    users = []
    for record in aggregate.records:
        explicit = record.explicit_hash_key_index if record.HasField("explicit_hash_key_index") else None
        fits = record.partition_key_index < keys
        fits = fits and (explicit is None or (explicit < len(hash_keys) and hash_keys[explicit]))
        users.append(User(bytes(record.data), not fits))
    return users or [User(data, broken=True)]


def _is_hash_key(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < HASH_KEYS
