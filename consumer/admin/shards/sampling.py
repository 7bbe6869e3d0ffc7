"""Reads a sample of a shard's records: one read a second, of the five that a shard allows to all readers together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from consumer.admin.shards.observed import Sampled
from consumer.aws import stream_reader
from consumer.aws.shard_metrics import ShardLoad

SAMPLE_S = 300.0
"""How many seconds back a sample starts."""

SAMPLE_RECORDS = 10_000
"""Maximum number of Kinesis records of one shard, an aggregate as one: a single read if they are small."""


@dataclass(frozen=True, slots=True)
class ShardSample:
    """The sample of one shard. ``load``: in the time that the sample spans, by the Kinesis records."""

    shard_id: str
    records: tuple[Sampled, ...]
    load: ShardLoad
    span_s: float


def sample(
    kinesis: Any,
    stream: str,
    shard_id: str,
    *,
    since_s: float,
    most: int = SAMPLE_RECORDS,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> ShardSample:
    """The shard's records from ``since_s`` (epoch) on. Raises botocore's errors."""
    count = size = 0
    last_s = since_s
    found: list[Sampled] = []
    for page in stream_reader.since(kinesis, stream, shard_id, since_s, most, sleep):
        for record in page:
            count += 1
            size += len(record["Data"]) + len(record.get("PartitionKey") or "")
            found += taken_apart(record)
        last_s = page[-1]["ApproximateArrivalTimestamp"].timestamp()
    until_s = last_s if count >= most else clock()  # a sample that is not full ends at the tip
    span_s = max(1.0, until_s - since_s)
    return ShardSample(shard_id, tuple(found), ShardLoad(count / span_s, size / span_s), span_s)


def taken_apart(record: Any) -> Iterator[Sampled]:
    """The record, or the user records of the aggregate."""
    outer = record.get("PartitionKey") or None
    for key, data in stream_reader.users(record):
        yield Sampled(key, len(data) + len(key or ""), outer)
