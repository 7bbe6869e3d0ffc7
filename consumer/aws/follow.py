"""Follow a stream: the records of its shards as they arrive, through splits and merges.

Reads each shard once a second at most: a shard allows five reads a second for all of its readers together, and the
application takes four of them. A throttled shard is read less often.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consumer.aws.record_lines import StreamRecord
from consumer.aws.stream_reader import PAGE, THROTTLES
from pipeline import kpl
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

READ_EVERY_S = 1.0
SLOWEST_S = 16.0
"""Maximum seconds between two reads of a shard that stays throttled."""

READS_AT_ONCE = 16

SKEW_S = 60.0
"""Kinesis refuses a start in the future, and its clock may be behind ours: reading starts this much earlier, and
records that arrived before the start are left out."""

SETTLED_S = 2.0
"""A shard at its tip has shown all records that arrived before a time once this much time has passed since."""


@dataclass(slots=True)
class _Cursor:
    """The state of reading one shard. ``iterator`` is empty while a new one is needed."""

    shard_id: str
    start: dict[str, Any]
    iterator: str = ""
    due_s: float = 0.0
    every_s: float = READ_EVERY_S


class Follower:
    """The records of a stream from ``start`` on.

    :param start: None starts with records that arrive from now on.
    :param until: the end, not included. Without it, :meth:`records` ends only with a stream that has no open shard.
    :param shard_id: only this shard and its descendants.
    """

    def __init__(
        self,
        kinesis: KinesisClient,
        stream: str,
        *,
        start: datetime | None = None,
        until: datetime | None = None,
        shard_id: str | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._start_s = start.timestamp() if start else now()
        self._until_s = until.timestamp() if until else None
        self._only = shard_id
        self._now = now
        self._sleep = sleep
        self._cursors: dict[str, _Cursor] = {}
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._waiting: dict[str, tuple[str, ...]] = {}

    def records(self) -> Iterator[StreamRecord]:
        """Each record once. Those of a shard come in order, and those of a child after those of its parents.

        Raises botocore's errors that waiting cannot fix.
        """
        self._begin()
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="follow") as threads:
            while self._cursors:
                now = self._now()
                due = [cursor for cursor in self._cursors.values() if cursor.due_s <= now]
                for cursor, answer in zip(due, threads.map(self._read, due), strict=True):
                    yield from self._take(cursor, answer)
                if self._cursors:
                    soonest_s = min(cursor.due_s for cursor in self._cursors.values())
                    self._sleep(max(0.0, soonest_s - self._now()))

    def _begin(self) -> None:
        from_s = min(self._start_s, self._now() - SKEW_S)
        shard_filter: Any = {"Type": "AT_TIMESTAMP", "Timestamp": from_s}
        request: Any = {"StreamName": self._stream, "ShardFilter": shard_filter}
        found: list[str] = []
        while True:
            answer = self._kinesis.list_shards(**request)
            found += [shard["ShardId"] for shard in answer["Shards"]]
            if not (token := answer.get("NextToken")):
                break
            request = {"NextToken": token}
        at_start = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": from_s}
        for shard_id in found if self._only is None else [self._only]:
            self._add(shard_id, at_start)

    def _add(self, shard_id: str, start: dict[str, Any]) -> None:
        if shard_id not in self._begun:
            self._begun.add(shard_id)
            self._cursors[shard_id] = _Cursor(shard_id, start)

    def _read(self, cursor: _Cursor) -> Any:
        """One read; None if the shard is throttled, or its iterator has expired. Calls AWS; runs in a thread."""
        from botocore.exceptions import ClientError

        try:
            if not cursor.iterator:
                answer = self._kinesis.get_shard_iterator(
                    StreamName=self._stream, ShardId=cursor.shard_id, **cursor.start
                )
                cursor.iterator = answer["ShardIterator"]
            return self._kinesis.get_records(ShardIterator=cursor.iterator, Limit=PAGE)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "ExpiredIteratorException":
                cursor.iterator = ""
            elif code not in THROTTLES:
                raise
            return None

    def _take(self, cursor: _Cursor, answer: Any) -> Iterator[StreamRecord]:
        now = self._now()
        if answer is None:
            cursor.every_s = min(SLOWEST_S, 2 * cursor.every_s)
            cursor.due_s = now + (cursor.every_s if cursor.iterator else 0.0)
            return
        cursor.every_s = READ_EVERY_S
        cursor.due_s = now + READ_EVERY_S
        for record in answer["Records"]:
            cursor.start = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": record["SequenceNumber"],
            }
            arrived_s = record["ApproximateArrivalTimestamp"].timestamp()
            if self._until_s is not None and arrived_s >= self._until_s:
                self._done(cursor, ())
                return
            if arrived_s >= self._start_s:
                yield from taken_apart(cursor.shard_id, record)
        cursor.iterator = answer.get("NextShardIterator") or ""
        if not cursor.iterator:
            self._done(cursor, answer.get("ChildShards", ()))
        elif self._until_s is not None and not answer["MillisBehindLatest"] and now >= self._until_s + SETTLED_S:
            self._done(cursor, ())

    def _done(self, cursor: _Cursor, children: Any) -> None:
        """The shard has ended, or has passed the end. A child of two parents begins when both have ended."""
        del self._cursors[cursor.shard_id]
        self._ended.add(cursor.shard_id)
        for child in children:
            self._waiting[child["ShardId"]] = tuple(child["ParentShards"])
        for child_id, parents in list(self._waiting.items()):
            if all(parent in self._ended or parent not in self._begun for parent in parents):
                del self._waiting[child_id]
                self._add(child_id, {"ShardIteratorType": "TRIM_HORIZON"})


def taken_apart(shard_id: str, record: Any) -> Iterator[StreamRecord]:
    """The record, or the user records of an aggregate; an aggregate that cannot be read is one record."""
    sequence = int(record["SequenceNumber"])
    arrived_ms = round(record["ApproximateArrivalTimestamp"].timestamp() * 1000)
    try:
        message = kpl.message(record["Data"])
    except kpl.Malformed:
        message = None
    if message is None:
        key = record.get("PartitionKey") or None
        yield StreamRecord(shard_id, Position(sequence, 0), key, arrived_ms, record["Data"])
        return
    for sub, (data, key, _, _) in enumerate(message.users()):
        yield StreamRecord(shard_id, Position(sequence, sub), key, arrived_ms, bytes(data))
