"""Operations that make, describe and change streams."""

from __future__ import annotations

from typing import Any

from consumer.local.account import Account, Answer, open_page, page_token
from consumer.local.errors import in_use, invalid, limit_exceeded, validation
from consumer.local.params import Params
from consumer.local.streams import ACCOUNT, Stream

SHARD_QUOTA = 20_000
ON_DEMAND_QUOTA = 50
ON_DEMAND_SHARDS = 4
METRICS = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)
MODES = ("PROVISIONED", "ON_DEMAND")


def create_stream(account: Account, p: Params, now_s: float) -> Answer:
    name = p.name("StreamName")
    mode = details.choice("StreamMode", MODES) if (details := p.group("StreamModeDetails")) else "PROVISIONED"
    count = ON_DEMAND_SHARDS if mode == "ON_DEMAND" else p.integer("ShardCount", 1, 100_000)
    max_record_kib = p.integer("MaxRecordSizeInKiB", 1024, 10_240, 1024)
    if name in account.streams:
        raise in_use(f"Stream {name} under account {ACCOUNT} already exists.")
    if open_shards(account) + count > SHARD_QUOTA:
        raise limit_exceeded(f"This request would exceed the shard limit for the account {ACCOUNT}: {SHARD_QUOTA}.")
    stream = Stream.create(name, account.region, count, now_s)
    stream.mode, stream.max_record_kib, stream.tags = mode, max_record_kib, p.tags("Tags")
    account.streams[name] = stream
    return {}


def open_shards(account: Account) -> int:
    return sum(len(stream.open_shards) for stream in account.streams.values())


def delete_stream(account: Account, p: Params, now_s: float) -> Answer:
    stream = account.stream(p)
    if stream.consumers and not p.body.get("EnforceConsumerDeletion"):
        raise in_use(f"Stream {stream.name} under account {ACCOUNT} has consumers. Deregister them first.")
    if stream.status_at(now_s) != "DELETING":
        stream.change("DELETING", now_s)
    return {}


def about(stream: Stream, now_s: float) -> Answer:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status_at(now_s),
        "StreamModeDetails": {"StreamMode": stream.mode},
        "RetentionPeriodHours": stream.retention_h,
        "StreamCreationTimestamp": stream.created_s,
        "EnhancedMonitoring": [{"ShardLevelMetrics": sorted(stream.monitoring)}],
        "EncryptionType": "NONE",
    }


def describe_stream(account: Account, p: Params, now_s: float) -> Answer:
    stream = account.stream(p)
    limit = p.integer("Limit", 1, 10_000, 100)
    shards = [] if stream.status_at(now_s) == "CREATING" else list(stream.shards.values())
    if after := p.maybe_text("ExclusiveStartShardId"):
        shards = [shard for shard in shards if shard.shard_id > after]
    answer = about(stream, now_s)
    answer["Shards"] = [shard.describe() for shard in shards[:limit]]
    answer["HasMoreShards"] = len(shards) > limit
    return {"StreamDescription": answer}


def describe_stream_summary(account: Account, p: Params, now_s: float) -> Answer:
    stream = account.stream(p)
    creating = stream.status_at(now_s) == "CREATING"
    return {
        "StreamDescriptionSummary": {
            **about(stream, now_s),
            "OpenShardCount": 0 if creating else len(stream.open_shards),
            "ConsumerCount": len(stream.consumers),
            "MaxRecordSizeInKiB": stream.max_record_kib,
        }
    }


def list_streams(account: Account, p: Params, now_s: float) -> Answer:
    limit = p.integer("Limit", 1, 10_000, 100)
    after = p.maybe_text("ExclusiveStartStreamName") or ""
    if (next_token := p.maybe_text("NextToken")) is not None:
        after = str(open_page(next_token, now_s).get("after", ""))
    names = sorted(name for name in account.streams if name > after)
    page = names[:limit]
    answer: Answer = {
        "StreamNames": page,
        "HasMoreStreams": len(names) > limit,
        "StreamSummaries": [summary(account.streams[name], now_s) for name in page],
    }
    if len(names) > limit:
        answer["NextToken"] = page_token(now_s, after=page[-1])
    return answer


def summary(stream: Stream, now_s: float) -> Answer:
    kept = ("StreamName", "StreamARN", "StreamStatus", "StreamModeDetails", "StreamCreationTimestamp")
    described = about(stream, now_s)
    return {key: described[key] for key in kept}


def describe_limits(account: Account, p: Params, now_s: float) -> Answer:
    return {
        "ShardLimit": SHARD_QUOTA,
        "OpenShardCount": open_shards(account),
        "OnDemandStreamCount": sum(stream.mode == "ON_DEMAND" for stream in account.streams.values()),
        "OnDemandStreamCountLimit": ON_DEMAND_QUOTA,
    }


def increase_retention(account: Account, p: Params, now_s: float) -> Answer:
    return _retention(account, p, now_s, rise=True)


def decrease_retention(account: Account, p: Params, now_s: float) -> Answer:
    return _retention(account, p, now_s, rise=False)


def _retention(account: Account, p: Params, now_s: float, *, rise: bool) -> Answer:
    hours = p.integer("RetentionPeriodHours", 1, 8760)
    stream = account.idle(p, now_s)
    if hours < 24:
        raise invalid(f"Minimum allowed retention period is 24 hours. Requested retention period ({hours} hours).")
    if (hours < stream.retention_h) if rise else (hours > stream.retention_h):
        raise invalid(
            f"Requested retention period ({hours} hours) for stream {stream.name} can not be "
            f"{'shorter' if rise else 'longer'} than existing retention period ({stream.retention_h} hours)."
        )
    if hours != stream.retention_h:
        stream.retention_h = hours
        stream.change("UPDATING", now_s)
    return {}


def enable_monitoring(account: Account, p: Params, now_s: float) -> Answer:
    return _monitoring(account, p, now_s, on=True)


def disable_monitoring(account: Account, p: Params, now_s: float) -> Answer:
    return _monitoring(account, p, now_s, on=False)


def _monitoring(account: Account, p: Params, now_s: float, *, on: bool) -> Answer:
    named = p.texts("ShardLevelMetrics")
    for metric in named:
        if metric not in (*METRICS, "ALL"):
            raise validation("ShardLevelMetrics", metric, f"Member must satisfy enum value set: {[*METRICS, 'ALL']}")
    stream = account.idle(p, now_s)
    metrics = set(METRICS) if "ALL" in named else set(named)
    before = sorted(stream.monitoring)
    stream.monitoring = stream.monitoring | metrics if on else stream.monitoring - metrics
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardLevelMetrics": before,
        "DesiredShardLevelMetrics": sorted(stream.monitoring),
    }


def update_stream_mode(account: Account, p: Params, now_s: float) -> Answer:
    details = p.group("StreamModeDetails")
    if details is None:
        raise validation("StreamModeDetails", None, "Member must not be null")
    mode = details.choice("StreamMode", MODES)
    stream = account.idle(p, now_s)
    if mode != stream.mode:
        stream.mode = mode
        stream.change("UPDATING", now_s)
    return {}


def update_max_record_size(account: Account, p: Params, now_s: float) -> Answer:
    size = p.integer("MaxRecordSizeInKiB", 1024, 10_240)
    stream = account.idle(p, now_s)
    stream.max_record_kib = size
    stream.change("UPDATING", now_s)
    return {}


OPERATIONS: dict[str, Any] = {
    "CreateStream": create_stream,
    "DeleteStream": delete_stream,
    "DescribeStream": describe_stream,
    "DescribeStreamSummary": describe_stream_summary,
    "ListStreams": list_streams,
    "DescribeLimits": describe_limits,
    "IncreaseStreamRetentionPeriod": increase_retention,
    "DecreaseStreamRetentionPeriod": decrease_retention,
    "EnableEnhancedMonitoring": enable_monitoring,
    "DisableEnhancedMonitoring": disable_monitoring,
    "UpdateStreamMode": update_stream_mode,
    "UpdateMaxRecordSize": update_max_record_size,
}
