"""SplitShard, MergeShards and UpdateShardCount. The stream is UPDATING first; the shards change at the end of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError, invalid, limit_exceeded, not_found
from consumer.local.kinesis.hash_ranges import MergeRanges, SplitRange, reshard
from consumer.local.kinesis.limits import SHARDS_PER_ACCOUNT, SHARDS_PER_UPDATE, UPDATES_PER_DAY
from consumer.local.kinesis.shard import LocalShard
from consumer.local.kinesis.stream import HOUR_MS, PendingChange, Stream


def split_shard(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """SplitShard. Like AWS, refuses to make a child that holds a single hash key."""
    stream = engine.find(request)
    _require_provisioned(stream, "SplitShard")
    shard = _shard(stream, request["ShardToSplit"])
    stream.require_active()
    at = int(request["NewStartingHashKey"])
    if not shard.keys.start + 1 < at < shard.keys.end:
        raise invalid(
            f"NewStartingHashKey {at} used in SplitShard() on shard {shard.shard_id} in {stream.place} is not both "
            f"greater than one plus the shard's StartingHashKey {shard.keys.start} and less than the shard's "
            f"EndingHashKey {shard.keys.end}."
        )
    _require_open(stream, shard)
    require_room(engine, 1)
    _change(engine, stream, [SplitRange(shard.keys, at)], now_ms)


def merge_shards(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """MergeShards of two adjacent open shards."""
    stream = engine.find(request)
    _require_provisioned(stream, "MergeShards")
    shard, adjacent = (_shard(stream, request[name]) for name in ("ShardToMerge", "AdjacentShardToMerge"))
    stream.require_active()
    _require_open(stream, shard)
    _require_open(stream, adjacent)
    lower, upper = sorted((shard.keys, adjacent.keys))
    if lower.end + 1 != upper.start:
        raise invalid(
            f"Shards {shard.shard_id} and {adjacent.shard_id} in {stream.place} are not an adjacent pair of shards "
            "eligible for merging"
        )
    _change(engine, stream, [MergeRanges(lower, upper)], now_ms)


def update_shard_count(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """UpdateShardCount. With limits, at most double, at least half, and ten times in 24 hours, as on AWS."""
    stream = engine.find(request)
    stream.require_active()
    _require_provisioned(stream, "UpdateShardCount")
    current, target = len(stream.open_shards()), request["TargetShardCount"]
    if engine.limits:
        _require_modest(stream, current, target, now_ms)
    require_room(engine, target - current)
    stream.recounts_ms.append(now_ms)
    _change(engine, stream, uniform_steps(stream, target), now_ms)
    return {
        "StreamName": stream.name,
        "CurrentShardCount": current,
        "TargetShardCount": target,
        "StreamARN": stream.arn,
    }


def uniform_steps(stream: Stream, target: int) -> list[SplitRange | MergeRanges]:
    """Return the steps that turn the open shards into ``target`` shards of almost equal size."""
    return reshard([shard.keys for shard in stream.open_shards()], target)


def require_room(engine: Engine, more: int) -> None:
    """Check that the account may have ``more`` additional open shards.

    :raises KinesisError: ``LimitExceededException`` otherwise.
    """
    have = sum(len(stream.open_shards()) for stream in engine.streams.values())
    if have + more > SHARDS_PER_ACCOUNT:
        raise limit_exceeded(
            f"This request would exceed the shard limit for the account {engine.owner.account} in "
            f"{engine.owner.region}. Current shard count for the account: {have}. Limit: {SHARDS_PER_ACCOUNT}. "
            f"Number of additional shards that would have resulted from this request: {more}."
        )


def _require_provisioned(stream: Stream, operation: str) -> None:
    if stream.mode != "PROVISIONED":
        raise KinesisError(
            "ValidationException", f"{operation} is not supported for {stream.place} in mode {stream.mode}."
        )


def _require_modest(stream: Stream, current: int, target: int, now_ms: int) -> None:
    stream.recounts_ms = [at_ms for at_ms in stream.recounts_ms if at_ms > now_ms - 24 * HOUR_MS]
    if len(stream.recounts_ms) >= UPDATES_PER_DAY:
        raise limit_exceeded(f"UpdateShardCount cannot be called more than {UPDATES_PER_DAY} times in 24 hours.")
    if target > 2 * current:
        raise limit_exceeded(f"UpdateShardCount cannot scale up over double your current open shard count {current}.")
    if 2 * target < current:
        raise limit_exceeded(f"UpdateShardCount cannot scale down below half your current open shard count {current}.")
    if target > SHARDS_PER_UPDATE:
        raise limit_exceeded(f"UpdateShardCount cannot scale up to more than {SHARDS_PER_UPDATE} shards.")


def _shard(stream: Stream, shard_id: str) -> LocalShard:
    shard = stream.shards.get(shard_id)
    if shard is None or stream.status == "CREATING":
        raise not_found(f"Could not find shard {shard_id} in {stream.place}.")
    return shard


def _require_open(stream: Stream, shard: LocalShard) -> None:
    if not shard.is_open:
        raise invalid(
            f"Shard {shard.shard_id} in {stream.place} has already been merged or split, and thus is not eligible "
            "for merging or splitting."
        )


def _change(engine: Engine, stream: Stream, steps: Sequence[SplitRange | MergeRanges], now_ms: int) -> None:
    stream.begin(PendingChange("UPDATING", now_ms + engine.change_ms, lambda at_ms: stream.take_steps(steps, at_ms)))
