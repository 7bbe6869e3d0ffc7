"""GetShardIterator, GetRecords and ListShards."""

from __future__ import annotations

from typing import Any

from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import in_use, invalid, not_found, throttled
from consumer.local.kinesis.limits import GET_RECORDS_MAX_BYTES, GET_RECORDS_MAX_RECORDS
from consumer.local.kinesis.shard import LocalShard, Stored
from consumer.local.kinesis.stream import Stream, Timestamp
from consumer.local.kinesis.tokens import Iterator, next_token, parse_next_token
from consumer.local.kinesis.writes import dry_run

LIST_SHARDS_PAGE = 1000


def get_shard_iterator(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """GetShardIterator. The iterator is valid for five minutes."""
    stream = engine.find(request)
    stream.require_made()
    shard = stream.trimmed(request["ShardId"], now_ms)
    if shard is None:
        raise not_found(f"Shard {request['ShardId']} in {stream.place} does not exist")
    position = start_of(stream, shard, request, now_ms)
    dry_run(request)
    if engine.limits and not shard.limits.iterator(now_ms):
        raise throttled(f"Rate exceeded for shard {shard.shard_id} in {stream.place}.")
    return {"ShardIterator": str(Iterator(stream.name, stream.created_ms, shard.shard_id, position, now_ms))}


def start_of(stream: Stream, shard: LocalShard, request: dict[str, Any], now_ms: int) -> int:
    """Return the position at which the iterator of a request starts.

    :raises KinesisError: ``InvalidArgumentException`` if the request contradicts itself or the shard.
    """
    kind = request["ShardIteratorType"]
    number = request.get("StartingSequenceNumber")
    if number is not None and not kind.endswith("SEQUENCE_NUMBER"):
        raise invalid(f"StartingSequenceNumber must not be given for an iterator of type {kind}.")
    if kind == "TRIM_HORIZON":
        return shard.first
    if kind == "LATEST":
        return shard.end
    if kind == "AT_TIMESTAMP":
        return shard.position_at(_past(request.get("Timestamp"), f"an iterator of type {kind}", now_ms))
    if number is None:
        raise invalid(f"Must specify startingSequenceNumber parameter for an iterator of type {kind}.")
    try:
        position = shard.position_of(number)
    except ValueError:
        raise invalid(
            f"StartingSequenceNumber {number} used in GetShardIterator on shard {shard.shard_id} in {stream.place} "
            "is invalid because it did not come from this stream."
        ) from None
    return position + 1 if kind == "AFTER_SEQUENCE_NUMBER" and position < shard.end else position


def _past(timestamp_ms: int | None, what: str, now_ms: int) -> int:
    if timestamp_ms is None:
        raise invalid(f"Must specify timestamp parameter for {what}.")
    if timestamp_ms > now_ms:
        raise invalid(
            f"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
            f"timestampInMillis: {timestamp_ms}, currentTimestampInMillis: {now_ms}"
        )
    return timestamp_ms


def get_records(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """GetRecords. At the end of a closed shard the answer has ChildShards and no NextShardIterator.

    :raises KinesisError: among others for an expired iterator, a deleted shard, or a shard over its read limit.
    """
    iterator = Iterator.parse(request["ShardIterator"], now_ms)
    stream = engine.named(iterator.stream)
    shard = stream.trimmed(iterator.shard_id, now_ms)
    if shard is None or stream.created_ms != iterator.stream_created_ms:
        raise not_found(f"Shard {iterator.shard_id} in {stream.place} does not exist")
    dry_run(request)
    if engine.limits and not shard.limits.read(now_ms):
        name = "ReadProvisionedThroughputExceeded"
        engine.count(stream, shard.shard_id, name, 1, now_ms, name)
        raise throttled(f"Rate exceeded for shard {shard.shard_id} in {stream.place}.")
    found = shard.read(iterator.position, request.get("Limit", GET_RECORDS_MAX_RECORDS), GET_RECORDS_MAX_BYTES)
    position = max(iterator.position, shard.first) + len(found)
    behind_ms = shard.behind_ms(position, now_ms)
    _count_read(engine, stream, shard, found, behind_ms, now_ms)
    answer: dict[str, Any] = {"Records": [shown(record) for record in found], "MillisBehindLatest": behind_ms}
    if shard.is_open or position < shard.end:
        answer["NextShardIterator"] = str(iterator._replace(position=position, issued_ms=now_ms))
    else:
        answer["ChildShards"] = [child.to_child() for child in shard.children]
    return answer


def shown(record: Stored) -> dict[str, Any]:
    """Return a record as GetRecords and SubscribeToShard show it."""
    made = {
        "SequenceNumber": record.sequence,
        "ApproximateArrivalTimestamp": Timestamp(record.arrived_ms),
        "Data": record.data,
    }
    return made if record.partition_key is None else {**made, "PartitionKey": record.partition_key}


def _count_read(
    engine: Engine, stream: Stream, shard: LocalShard, found: list[Stored], behind_ms: int, now_ms: int
) -> None:
    size = sum(len(record.data) for record in found)
    shard.limits.was_read(size)
    age_ms = max(now_ms - found[-1].arrived_ms, 0) if found else behind_ms
    for name, value, shard_name in (
        ("GetRecords.IteratorAgeMilliseconds", age_ms, "IteratorAgeMilliseconds"),
        ("GetRecords.Records", len(found), "OutgoingRecords"),
        ("GetRecords.Bytes", size, "OutgoingBytes"),
    ):
        engine.count(stream, shard.shard_id, name, value, now_ms, shard_name)


# -- ListShards


def list_shards(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """ListShards, in the order of shard ids. Closed shards that have expired are not listed."""
    stream, after, wanted = _listing(engine, request, now_ms)
    if stream.status in ("CREATING", "DELETING"):
        raise in_use(f"Stream {stream.name} under account {engine.owner.account} is in state {stream.status}")
    stream.trim(now_ms)
    page = min(request.get("MaxResults", LIST_SHARDS_PAGE), LIST_SHARDS_PAGE)
    shards = [shard for shard in _filtered(stream, wanted, now_ms) if shard.shard_id > after]
    answer: dict[str, Any] = {"Shards": [shard.to_dict() for shard in shards[:page]]}
    if len(shards) > page:
        last = shards[page - 1].shard_id
        answer["NextToken"] = next_token("shards", now_ms, stream.name, stream.created_ms, last, wanted)
    return answer


def _listing(engine: Engine, request: dict[str, Any], now_ms: int) -> tuple[Stream, str, dict[str, Any]]:
    """Return the stream, the shard id to continue after, and the filter, from the request or its token."""
    token = request.get("NextToken")
    if token is None:
        stream = engine.find(request)
        created_ms = request.get("StreamCreationTimestamp")
        if created_ms is not None and created_ms // 1000 != stream.created_ms // 1000:
            raise not_found(f"Stream {stream.name} under account {engine.owner.account} not found.")
        return stream, request.get("ExclusiveStartShardId", ""), request.get("ShardFilter") or {}
    for name in ("StreamName", "ExclusiveStartShardId", "StreamCreationTimestamp", "ShardFilter"):
        if request.get(name) is not None:
            raise invalid(f"NextToken and {name} cannot be provided together.")
    name, created_ms, after, wanted = parse_next_token("shards", token, now_ms)
    stream = engine.named(name)
    if stream.created_ms != created_ms:
        raise not_found(f"Stream {name} under account {engine.owner.account} not found.")
    return stream, after, wanted


def _filtered(stream: Stream, wanted: dict[str, Any], now_ms: int) -> list[LocalShard]:
    """Return the shards that a ShardFilter selects, by id. A time before the trim horizon counts as the horizon."""
    kind = wanted.get("Type", "FROM_TRIM_HORIZON")
    shards = list(stream.shards.values())
    if (kind == "AFTER_SHARD_ID") != (wanted.get("ShardId") is not None):
        raise invalid("ShardFilter: ShardId is required for the type AFTER_SHARD_ID, and only allowed with it.")
    if kind.endswith("TIMESTAMP") != (wanted.get("Timestamp") is not None):
        raise invalid(
            "ShardFilter: Timestamp is required for the types AT_TIMESTAMP and FROM_TIMESTAMP, and only allowed with "
            "them."
        )
    horizon_ms = stream.horizon_ms(now_ms)
    at_ms = max(_past(wanted.get("Timestamp", horizon_ms), "ShardFilter", now_ms), horizon_ms)
    if kind == "AFTER_SHARD_ID":
        return [shard for shard in shards if shard.shard_id > wanted["ShardId"]]
    if kind == "AT_LATEST":
        return [shard for shard in shards if shard.is_open]
    if kind in ("AT_TRIM_HORIZON", "AT_TIMESTAMP"):
        return [one for one in shards if one.opened_ms <= at_ms and (one.closed_ms is None or one.closed_ms > at_ms)]
    return [one for one in shards if one.closed_ms is None or one.closed_ms >= at_ms]
