"""Records that expired before they were read: what can be known of them.

Kinesis says nothing when a checkpoint lies before the oldest record that it still has: it goes on with that one. How
many there were in between nobody can tell, since sequence numbers have gaps; until when they arrived can be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

EDGE = 0.9
"""An oldest record of this share of the retention lies at its edge: others before it have just expired. One that is
younger begins a shard that was quiet, and nothing was missed."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest record that a shard still has."""

    sequence: int
    arrived_s: float


def oldest(kinesis: KinesisClient, stream: str, shard_id: str) -> Oldest | None:
    """None if the first read of the shard finds nothing. Two calls; failures of AWS come as botocore's errors."""
    at = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    for record in kinesis.get_records(ShardIterator=at["ShardIterator"], Limit=1)["Records"]:
        return Oldest(int(record["SequenceNumber"]), record["ApproximateArrivalTimestamp"].timestamp())
    return None


def missed(began_after: Position | None, first: Oldest | None, retention_s: float, now_s: float) -> bool:
    """Whether records after ``began_after``, a checkpoint, expired before a session that began there read them. Pure.

    ``now_s`` is the time by the clock of the arrivals. One that begins at a sentinel has missed nothing of its own.
    """
    if began_after is None or first is None or first.sequence <= began_after.sequence:
        return False
    return now_s - first.arrived_s >= EDGE * retention_s
