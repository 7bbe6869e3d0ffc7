"""Reads a shard in doubt from the stream, without KCL. Calls block."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consumer.aws.stream_reader import READ_EVERY_S, Sleep, patiently
from consumer.config.kcl_properties import start_time_s
from consumer.poison.reader import Page
from pipeline.record import Position, Record

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

    from consumer.config.settings import StreamSettings


LIMIT = 512
"""Maximum number of records of one read."""


class LeasePages:
    """Reads the shards of one stream. Calls raise the errors of botocore; throttled calls are retried."""

    def __init__(
        self, kinesis: Callable[[], KinesisClient], stream: StreamSettings, *, sleep: Sleep = time.sleep
    ) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._sleep = sleep

    def after(self, shard_id: str, position: Position | None) -> Page:
        """Return the next Kinesis records; see :class:`consumer.poison.reader.Pages`."""
        kinesis = self._kinesis()
        where = self._where(position)
        found = patiently(
            self._sleep, kinesis.get_shard_iterator, StreamName=self._stream.name, ShardId=shard_id, **where
        )
        at = found["ShardIterator"]
        while True:
            answer = patiently(self._sleep, kinesis.get_records, ShardIterator=at, Limit=LIMIT)
            at = answer.get("NextShardIterator", "")
            last = answer["MillisBehindLatest"] == 0 or not at
            if answer["Records"] or last:
                return Page([record_of(shard_id, raw) for raw in answer["Records"]], last)
            self._sleep(READ_EVERY_S)

    def _where(self, position: Position | None) -> dict[str, Any]:
        if position is not None:
            return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(position.sequence)}
        if (seconds := start_time_s(self._stream.start)) is not None:
            return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": seconds}
        return {"ShardIteratorType": "TRIM_HORIZON"}


def record_of(shard_id: str, raw: Any) -> Record:
    """Convert a record of GetRecords. An aggregate is not taken apart."""
    arrived_ms = round(raw["ApproximateArrivalTimestamp"].timestamp() * 1000)
    return Record(shard_id, raw["Data"], raw.get("PartitionKey") or None, raw["SequenceNumber"], 0, arrived_ms)
