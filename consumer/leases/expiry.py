"""Finds out whether records expired before they were read.

Kinesis gives no error if a checkpoint is before the oldest record that it still has: it continues with that record. The
number of lost records is unknown, because sequence numbers have gaps; until when they arrived is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

EDGE = 0.9
"""If the oldest record has at least this share of the retention as its age, records before it have just expired. A
younger one is the first of a shard that was idle, and nothing was lost."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest record that a shard still has."""

    sequence: int
    arrived_s: float


def oldest(kinesis: KinesisClient, stream: str, shard_id: str) -> Oldest | None:
    """Read it; None if the first read of the shard finds nothing. Makes two calls, and raises botocore's errors."""
    at = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    for record in kinesis.get_records(ShardIterator=at["ShardIterator"], Limit=1)["Records"]:
        return Oldest(int(record["SequenceNumber"]), record["ApproximateArrivalTimestamp"].timestamp())
    return None


def missed(began_after: Position | None, first: Oldest | None, retention_s: float, now_s: float) -> bool:
    """Whether records after ``began_after``, a checkpoint, expired before a session that began there read them. Pure.

    ``now_s`` is the time by the clock of the arrivals. A session that began at a sentinel has lost nothing.
    """
    if began_after is None or first is None or first.sequence <= began_after.sequence:
        return False
    return now_s - first.arrived_s >= EDGE * retention_s
