"""SubscribeToShard: the events of a shard for a registered consumer, for five minutes or until the shard ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consumer.local.kinesis.consumers import find_consumer
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import in_use, not_found
from consumer.local.kinesis.limits import GET_RECORDS_MAX_RECORDS, MIB, READ_BYTES_PER_S, TokenBucket
from consumer.local.kinesis.reads import shown, start_of
from consumer.local.kinesis.shard import LocalShard
from consumer.local.kinesis.stream import Consumer, Opened, Stream
from consumer.local.kinesis.writes import dry_run

LIFE_MS = 300_000
AGAIN_MS = 5_000
"""Milliseconds after a call in which the same consumer may not subscribe to the same shard again (API reference)."""
HEARTBEAT_MS = 1_000
"""Milliseconds between two events of a shard without new records."""
EVENT_BYTES = MIB


@dataclass(slots=True, eq=False)
class Subscription:
    """The subscription of one consumer to one shard, at ``position``. ``is_over``: there are no more events."""

    engine: Engine
    stream: Stream
    consumer: Consumer
    shard_id: str
    position: int
    opened: Opened
    told_ms: int
    bucket: TokenBucket
    is_over: bool = False

    def next_event(self, now_ms: int) -> dict[str, Any] | None:
        """Return the event that is due, or None.

        :raises KinesisError: where AWS would send an exception; the subscription is then over.
        """
        if now_ms >= self.opened.at_ms + LIFE_MS:
            self.is_over = True
        if self.is_over:
            return None
        try:
            shard = self._shard(now_ms)
        except BaseException:
            self.is_over = True
            raise
        flows = not self.engine.limits or self.bucket.holds(1, now_ms)
        found = shard.read(self.position, GET_RECORDS_MAX_RECORDS, EVENT_BYTES) if flows else []
        self.position = max(self.position, shard.first) + len(found)
        self.is_over = not shard.is_open and self.position >= shard.end
        if not (found or self.is_over or now_ms >= self.told_ms + HEARTBEAT_MS):
            return None
        self.told_ms = now_ms
        self.bucket.take(sum(len(record.data) for record in found))
        event = {"Records": [shown(record) for record in found], "MillisBehindLatest": self._behind_ms(shard, now_ms)}
        if self.is_over:
            return {**event, "ChildShards": [child.to_child() for child in shard.children]}
        return {**event, "ContinuationSequenceNumber": shard.number_before(self.position, now_ms)}

    def _behind_ms(self, shard: LocalShard, now_ms: int) -> int:
        return shard.behind_ms(self.position, now_ms)

    def _shard(self, now_ms: int) -> LocalShard:
        self.stream.settle(now_ms)
        if self.consumer.opened.get(self.shard_id) is not self.opened:
            raise in_use(f"Another subscription of {self.consumer.name} to {self.shard_id} replaced this one.")
        is_there = self.engine.streams.get(self.stream.name) is self.stream
        if not is_there or self.consumer.status(now_ms) != "ACTIVE":
            raise not_found(f"Consumer {self.consumer.arn} not found.")
        return _shard_of(self.stream, self.shard_id, now_ms)


def subscribe(engine: Engine, request: dict[str, Any], now_ms: int) -> Subscription:
    """SubscribeToShard. It replaces an earlier subscription, which with limits must be at least five seconds old."""
    stream, consumer = find_consumer(engine, request)
    if consumer.status(now_ms) != "ACTIVE":
        raise in_use(f"Consumer {consumer.arn} is in state {consumer.status(now_ms)}.")
    stream.require_made()
    shard_id, at = request["ShardId"], request["StartingPosition"]
    shard = _shard_of(stream, shard_id, now_ms)
    begin = {"ShardIteratorType": at["Type"], "StartingSequenceNumber": at.get("SequenceNumber")}
    position = start_of(stream, shard, {**begin, "Timestamp": at.get("Timestamp")}, now_ms)
    earlier = consumer.opened.get(shard_id)
    if engine.limits and earlier is not None and now_ms < earlier.at_ms + AGAIN_MS:
        raise in_use(f"Another active subscription exists for consumer {consumer.arn} and shard {shard_id}.")
    dry_run(request)
    bucket, opened = TokenBucket(READ_BYTES_PER_S), Opened(now_ms)
    consumer.opened[shard_id] = opened
    return Subscription(engine, stream, consumer, shard_id, position, opened, now_ms - HEARTBEAT_MS, bucket)


def _shard_of(stream: Stream, shard_id: str, now_ms: int) -> LocalShard:
    shard = stream.trimmed(shard_id, now_ms)
    if shard is None:
        raise not_found(f"Shard {shard_id} in {stream.place} does not exist")
    return shard
