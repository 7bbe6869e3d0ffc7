"""Operations that create, delete, describe and change streams."""

from __future__ import annotations

from typing import Any

from consumer.local.kinesis import api_model, warm
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError, in_use, invalid
from consumer.local.kinesis.limits import SHARDS_PER_ACCOUNT
from consumer.local.kinesis.reshards import require_room
from consumer.local.kinesis.stream import BY_KEY, SHARDS_AT_FIRST, PendingChange, Stream, Timestamp
from consumer.local.kinesis.tag_rules import require_tags
from consumer.local.kinesis.tokens import next_token, parse_next_token

RETENTION_HOURS = (24, 8760)
ON_DEMAND_STREAMS = 50
PAGE = 100


def create_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """CreateStream. The stream is CREATING for ``engine.change_ms``, then ACTIVE."""
    name = request["StreamName"]
    if name in engine.streams:
        raise in_use(f"Stream {name} under account {engine.owner.account} already exists.")
    mode = request.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    distribution = request.get("RecordDistributionStrategy", BY_KEY)
    _require_distribution(f"stream {name}", mode, distribution)
    mib = request.get("WarmThroughputMiBps")
    warm.require_warm(engine, f"stream {name}", mode, mib, now_ms)
    count = _shard_count(mode, request.get("ShardCount"), mib)
    require_room(engine, count)
    tags = require_tags({}, request.get("Tags", {}), f"stream {name}")
    stream = Stream(engine.owner, name, count, now_ms)
    stream.mode = mode
    stream.distribution = distribution
    stream.warm_mib = mib
    stream.tags = tags
    stream.max_record_kib = request.get("MaxRecordSizeInKiB", stream.max_record_kib)
    stream.begin(PendingChange("CREATING", now_ms + engine.change_ms, lambda at_ms: None))
    engine.streams[name] = stream


def _shard_count(mode: str, asked: int | None, warm_mib: int | None) -> int:
    if mode == "ON_DEMAND":
        if asked is not None:
            raise KinesisError("ValidationException", "ShardCount must not be set for a stream in mode ON_DEMAND.")
        return warm.shards_for(warm_mib)
    return SHARDS_AT_FIRST if asked is None else asked


def delete_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """DeleteStream. The stream is DELETING for ``engine.change_ms``, then gone."""
    stream = engine.find(request)
    if stream.consumers and not request.get("EnforceConsumerDeletion"):
        raise in_use(f"Stream {stream.name} under account {engine.owner.account} has consumers registered with it.")

    def drop(at_ms: int) -> None:
        if engine.streams.get(stream.name) is stream:
            del engine.streams[stream.name]

    stream.begin(PendingChange("DELETING", now_ms + engine.change_ms, drop))


# -- describing


def describe_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DescribeStream, with at most 100 shards a page."""
    stream = engine.find(request)
    stream.trim(now_ms)
    page = min(request.get("Limit", PAGE), PAGE)
    after = request.get("ExclusiveStartShardId", "")
    made = stream.shards.values() if stream.status != "CREATING" else ()
    shards = [shard for shard in made if shard.shard_id > after]
    description = {
        **_described(stream),
        "Shards": [shard.to_dict() for shard in shards[:page]],
        "HasMoreShards": len(shards) > page,
    }
    return {"StreamDescription": description}


def describe_stream_summary(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DescribeStreamSummary."""
    stream = engine.find(request)
    summary = {
        **_described(stream),
        "OpenShardCount": len(stream.open_shards()) if stream.status != "CREATING" else 0,
        "ConsumerCount": len(stream.consumers),
        "MaxRecordSizeInKiB": stream.max_record_kib,
    }
    if stream.mode == "ON_DEMAND":
        summary["RecordDistributionStrategy"] = stream.distribution
        if warm.is_committed(engine, now_ms):
            summary["WarmThroughput"] = warm.shown(stream)
    return {"StreamDescriptionSummary": summary}


def _described(stream: Stream) -> dict[str, Any]:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "StreamModeDetails": {"StreamMode": stream.mode},
        "RetentionPeriodHours": stream.retention_hours,
        "StreamCreationTimestamp": Timestamp(stream.created_ms // 1000 * 1000),
        "EnhancedMonitoring": [{"ShardLevelMetrics": sorted(stream.monitoring)}],
        "EncryptionType": "NONE",
    }


def list_streams(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """ListStreams, sorted by name, at most 100 a page."""
    after = request.get("ExclusiveStartStreamName", "")
    if request.get("NextToken") is not None:
        [after] = parse_next_token("streams", request["NextToken"], now_ms)
    page = min(request.get("Limit", PAGE), PAGE)
    names = sorted(name for name in engine.streams if name > after)
    shown = [_described(engine.streams[name]) for name in names[:page]]
    kept = ("StreamName", "StreamARN", "StreamStatus", "StreamModeDetails", "StreamCreationTimestamp")
    answer: dict[str, Any] = {
        "StreamNames": names[:page],
        "HasMoreStreams": len(names) > page,
        "StreamSummaries": [{name: stream[name] for name in kept} for stream in shown],
    }
    if len(names) > page:
        answer["NextToken"] = next_token("streams", now_ms, names[page - 1])
    return answer


def describe_limits(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DescribeLimits, with the default quotas of us-east-1."""
    streams = engine.streams.values()
    return {
        "ShardLimit": SHARDS_PER_ACCOUNT,
        "OpenShardCount": sum(len(stream.open_shards()) for stream in streams),
        "OnDemandStreamCount": sum(stream.mode == "ON_DEMAND" for stream in streams),
        "OnDemandStreamCountLimit": ON_DEMAND_STREAMS,
    }


# -- adjusting


def increase_retention(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """IncreaseStreamRetentionPeriod, up to 8760 hours."""
    stream, hours = _retention(engine, request)
    if hours < stream.retention_hours:
        raise invalid(
            f"Requested retention period ({hours} hours) for {stream.place} can not be shorter than existing "
            f"retention period ({stream.retention_hours} hours). Use DecreaseRetentionPeriod API."
        )
    _retain(engine, stream, hours, now_ms)


def decrease_retention(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """DecreaseStreamRetentionPeriod, down to 24 hours. Older records are dropped at once."""
    stream, hours = _retention(engine, request)
    if hours > stream.retention_hours:
        raise invalid(
            f"Requested retention period ({hours} hours) for {stream.place} can not be longer than existing "
            f"retention period ({stream.retention_hours} hours). Use IncreaseRetentionPeriod API."
        )
    _retain(engine, stream, hours, now_ms)


def _retention(engine: Engine, request: dict[str, Any]) -> tuple[Stream, int]:
    hours = request["RetentionPeriodHours"]
    least, most = RETENTION_HOURS
    if hours < least:
        raise invalid(
            f"Minimum allowed retention period is {least} hours. "
            f"Requested retention period ({hours} hours) is too short."
        )
    if hours > most:
        raise invalid(
            f"Maximum allowed retention period is {most} hours. Requested retention period ({hours} hours) is too long."
        )
    stream = engine.find(request)
    stream.require_active()
    return stream, hours


def _retain(engine: Engine, stream: Stream, hours: int, now_ms: int) -> None:
    """Change the retention. Records that have expired under the old period do not come back with a longer one."""
    stream.trim(now_ms)
    stream.retention_hours = hours
    stream.trim(now_ms)
    _updating(engine, stream, now_ms)


def _updating(engine: Engine, stream: Stream, now_ms: int) -> None:
    stream.begin(PendingChange("UPDATING", now_ms + engine.change_ms, lambda at_ms: None))


def enable_monitoring(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """EnableEnhancedMonitoring: CloudWatch then gets these metrics per shard."""
    return _monitor(engine, request, lambda have, named: have | named)


def disable_monitoring(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DisableEnhancedMonitoring."""
    return _monitor(engine, request, lambda have, named: have - named)


def _monitor(engine: Engine, request: dict[str, Any], combine: Any) -> dict[str, Any]:
    stream = engine.find(request)
    stream.require_active()
    before = sorted(stream.monitoring)
    named = set(request["ShardLevelMetrics"])
    stream.monitoring = combine(stream.monitoring, set(api_model.METRIC_NAMES) if "ALL" in named else named)
    return {
        "StreamName": stream.name,
        "CurrentShardLevelMetrics": before,
        "DesiredShardLevelMetrics": sorted(stream.monitoring),
        "StreamARN": stream.arn,
    }


def update_stream_mode(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """UpdateStreamMode. Open shards stay as they are, except for ``WarmThroughputMiBps``."""
    stream = engine.find(request)
    stream.require_active()
    mode = request["StreamModeDetails"]["StreamMode"]
    mib = request.get("WarmThroughputMiBps")
    _require_distribution(stream.place, mode, stream.distribution)
    warm.require_warm(engine, stream.place, mode, mib, now_ms)
    stream.mode = mode
    stream.warm_mib = None
    if mib is None:
        _updating(engine, stream, now_ms)
    else:
        warm.warm_up(engine, stream, mib, now_ms)


def update_distribution(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """UpdateStreamRecordDistributionStrategy. It applies to new records immediately."""
    stream = engine.find(request)
    stream.require_active()
    distribution = request["RecordDistributionStrategy"]
    _require_distribution(stream.place, stream.mode, distribution)
    stream.distribution = distribution
    _updating(engine, stream, now_ms)


def _require_distribution(place: str, mode: str, distribution: str) -> None:
    if distribution != BY_KEY and mode != "ON_DEMAND":
        raise invalid(f"RecordDistributionStrategy {distribution} is not supported for {place} in mode {mode}.")


def update_max_record_size(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """UpdateMaxRecordSize, for records that are put from now on."""
    stream = engine.find(request)
    stream.require_active()
    stream.max_record_kib = request["MaxRecordSizeInKiB"]
    _updating(engine, stream, now_ms)
