"""Finds a moment in each shard of a stream: the last record before it, and the first one at or after it. Blocks; reads
only.

Kinesis finds the first record from a time on, but not the record before it. So a shard is read from a little before the
moment, and from further and further back until there is a record in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from consumer.admin.replay.rewind import AT_TIMESTAMP, LATEST, SHARD_END, Checkpoint, ShardFacts
from consumer.aws.stream_reader import PAGE, READ_EVERY_S, Sleep, patiently
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

FIRST_LOOK_MS = 5_000
"""How far before the moment a shard is first read. Each further read starts eight times as far back. Kinesis refuses
times that are in the future by its own clock, which may differ from ours."""

FURTHER = 8

SHARDS_AT_ONCE = 8


def facts_of(
    kinesis: KinesisClient,
    stream: str,
    shard_ids: Collection[str],
    moment_ms: int,
    *,
    tell: Callable[[int], object] = lambda shards: None,
    sleep: Sleep = time.sleep,
) -> dict[str, ShardFacts]:
    """The facts of each shard. ``tell`` is called for each shard that is done. Raises botocore's errors."""

    def one(shard_id: str) -> tuple[str, ShardFacts]:
        found = _Shard(kinesis, stream, shard_id, sleep).facts(moment_ms)
        tell(1)
        return shard_id, found

    with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="arrivals") as threads:
        return dict(threads.map(one, sorted(shard_ids)))


def oldest_after(
    kinesis: KinesisClient,
    stream: str,
    positions: Mapping[str, Checkpoint | None],
    start_ms: int | None,
    *,
    sleep: Sleep = time.sleep,
) -> int | None:
    """When the oldest record arrived that is after its shard's position; None if there is none.

    :param positions: by shard; None: not started, so all of it. ``start_ms``: what AT_TIMESTAMP means.
    """

    def one(shard_id: str) -> int | None:
        where = _after(positions[shard_id], start_ms)
        page = next(_Shard(kinesis, stream, shard_id, sleep).pages(where, 1), None) if where else None
        return _arrived_ms(page[0]) if page else None

    with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="arrivals") as threads:
        found = list(threads.map(one, sorted(positions)))
    return min((arrived for arrived in found if arrived is not None), default=None)


def _after(position: Checkpoint | None, start_ms: int | None) -> dict[str, Any] | None:
    """Where the unread part of a shard begins, as Kinesis takes it; None if it has none."""
    if isinstance(position, Position):
        return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(position.sequence)}
    if position in (SHARD_END, LATEST):
        return None
    if position == AT_TIMESTAMP and start_ms is not None:
        return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": start_ms / 1000}
    return {"ShardIteratorType": "TRIM_HORIZON"}


class _Shard:
    def __init__(self, kinesis: KinesisClient, stream: str, shard_id: str, sleep: Sleep) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._shard_id = shard_id
        self._sleep = sleep

    def facts(self, moment_ms: int) -> ShardFacts:
        oldest = next(self.pages({"ShardIteratorType": "TRIM_HORIZON"}, 1), None)
        if oldest is None:
            return ShardFacts(None, None)
        oldest_ms, back_ms = _arrived_ms(oldest[0]), FIRST_LOOK_MS
        if oldest_ms >= moment_ms:
            return ShardFacts(None, _position(oldest[0]), None, oldest_ms)
        while True:
            begin_ms = max(oldest_ms, moment_ms - back_ms)
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": begin_ms / 1000}
            found = _around(self.pages(where, PAGE), moment_ms)
            if found.last_before is not None:
                return found
            if begin_ms == oldest_ms:  # it has expired since
                return self.facts(moment_ms)
            back_ms *= FURTHER

    def pages(self, where: dict[str, Any], limit: int) -> Iterator[Sequence[Any]]:
        """The records from there to the tip, or to the end of a closed shard. No page is empty."""
        kinesis = self._kinesis
        answer = patiently(
            self._sleep, kinesis.get_shard_iterator, StreamName=self._stream, ShardId=self._shard_id, **where
        )
        at: str = answer["ShardIterator"]
        while at:
            answer = patiently(self._sleep, kinesis.get_records, ShardIterator=at, Limit=limit)
            if answer["Records"]:
                yield answer["Records"]
            at = answer.get("NextShardIterator", "")
            if answer["MillisBehindLatest"] == 0:
                return
            self._sleep(READ_EVERY_S)


def _around(pages: Iterator[Sequence[Any]], moment_ms: int) -> ShardFacts:
    last: Any = None
    for page in pages:
        for record in page:
            if _arrived_ms(record) >= moment_ms:
                return _facts(last, record)
            last = record
    return _facts(last, None)


def _facts(last: Any, first: Any) -> ShardFacts:
    return ShardFacts(
        _position(last) if last else None,
        _position(first) if first else None,
        _arrived_ms(last) if last else None,
        _arrived_ms(first) if first else None,
    )


def _position(record: Any) -> Position:
    return Position(int(record["SequenceNumber"]), 0)


def _arrived_ms(record: Any) -> int:
    milliseconds: float = record["ApproximateArrivalTimestamp"].timestamp() * 1000
    return round(milliseconds)
