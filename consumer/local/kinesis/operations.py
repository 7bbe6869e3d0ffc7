"""The entry points of the local Kinesis, :func:`perform` and :func:`subscribe`, and the handler of each operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumer.local.kinesis import api_model, consumers, reads, reshards, streams, subscriptions, tags, warm, writes
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.subscriptions import Subscription

Handler = Callable[[Engine, dict[str, Any], int], dict[str, Any] | None]

SUBSCRIBE = "SubscribeToShard"
HANDLERS: dict[str, Handler] = {
    "AddTagsToStream": tags.add_tags_to_stream,
    "CreateStream": streams.create_stream,
    "DecreaseStreamRetentionPeriod": streams.decrease_retention,
    "DeleteStream": streams.delete_stream,
    "DeregisterStreamConsumer": consumers.deregister,
    "DescribeAccountSettings": warm.describe_account,
    "DescribeLimits": streams.describe_limits,
    "DescribeStream": streams.describe_stream,
    "DescribeStreamConsumer": consumers.describe,
    "DescribeStreamSummary": streams.describe_stream_summary,
    "DisableEnhancedMonitoring": streams.disable_monitoring,
    "EnableEnhancedMonitoring": streams.enable_monitoring,
    "GetRecords": reads.get_records,
    "GetShardIterator": reads.get_shard_iterator,
    "IncreaseStreamRetentionPeriod": streams.increase_retention,
    "ListShards": reads.list_shards,
    "ListStreamConsumers": consumers.list_all,
    "ListStreams": streams.list_streams,
    "ListTagsForResource": tags.list_tags_for_resource,
    "ListTagsForStream": tags.list_tags_for_stream,
    "MergeShards": reshards.merge_shards,
    "PutRecord": writes.put_record,
    "PutRecords": writes.put_records,
    "RegisterStreamConsumer": consumers.register,
    "RemoveTagsFromStream": tags.remove_tags_from_stream,
    "SplitShard": reshards.split_shard,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateAccountSettings": warm.update_account,
    "UpdateMaxRecordSize": streams.update_max_record_size,
    "UpdateShardCount": reshards.update_shard_count,
    "UpdateStreamMode": streams.update_stream_mode,
    "UpdateStreamRecordDistributionStrategy": streams.update_distribution,
    "UpdateStreamWarmThroughput": warm.update_warm_throughput,
}


def perform(engine: Engine, operation: str, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """Perform one operation at ``now_ms``, in milliseconds since the epoch, and return its answer.

    :raises KinesisError: for every error that AWS would answer with.
    """
    handler = HANDLERS.get(operation)
    if handler is None:
        raise KinesisError("UnknownOperationException", f"The local Kinesis does not support {operation}.")
    return handler(engine, _prepared(engine, operation, request, now_ms), now_ms) or {}


def subscribe(engine: Engine, request: dict[str, Any], now_ms: int) -> Subscription:
    """Perform SubscribeToShard and return the subscription, whose events are the answer.

    :raises KinesisError: as :func:`perform` does.
    """
    return subscriptions.subscribe(engine, _prepared(engine, SUBSCRIBE, request, now_ms), now_ms)


def _prepared(engine: Engine, operation: str, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """Check the request against the API model, and apply all changes of streams that are due."""
    api_model.check(operation, request)
    for stream in list(engine.streams.values()):
        stream.settle(now_ms)
    return _without_nulls(request)


def _without_nulls(request: dict[str, Any]) -> dict[str, Any]:
    """Remove members that are null, and those of structures in the request, as AWS does.

    No operation has a structure in another one. It does not look deeper: a request may nest unknown members without
    end.
    """
    return {
        name: {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value
        for name, value in request.items()
        if value is not None
    }
