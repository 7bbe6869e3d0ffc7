"""The shards of a stream, from ListShards. Calls block and raise the errors of botocore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer.config.kcl_properties import start_time_s

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient


@dataclass(frozen=True, slots=True)
class KnownShard:
    """A shard that Kinesis still has. Its ``parents`` may have expired. ``hash_keys`` are the first and the last
    key."""

    shard_id: str
    parents: tuple[str, ...] = ()
    open: bool = True
    hash_keys: tuple[str, str] = ("", "")
    first_sequence: int = 0


def known(kinesis: KinesisClient, stream: str) -> dict[str, KnownShard]:
    """Every shard that is open, or closed and still within retention; by id."""
    return _listed(kinesis, stream, None)


def open_at(kinesis: KinesisClient, stream: str, start: str) -> dict[str, KnownShard]:
    """Return the shards that were open at ``start``, TRIM_HORIZON or a time. An application that starts there needs
    them."""
    shard_filter: dict[str, Any] = {"Type": "AT_TRIM_HORIZON"}
    if (seconds := start_time_s(start)) is not None:
        shard_filter = {"Type": "AT_TIMESTAMP", "Timestamp": seconds}
    return _listed(kinesis, stream, shard_filter)


def spread_by_key(kinesis: KinesisClient, stream: str) -> bool:
    """Whether the partition key of a record selects its shard. It does not with the distribution strategy AUTO."""
    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    return summary.get("RecordDistributionStrategy") != "AUTO"


@dataclass(frozen=True, slots=True)
class Summary:
    """What DescribeStreamSummary says of a stream. ``monitored``: its shard-level metrics that are enabled."""

    name: str
    arn: str
    created_s: float
    status: str
    mode: str
    retention_hours: int
    open_shards: int
    consumers: int
    monitored: frozenset[str]


def summary(kinesis: KinesisClient, stream: str) -> Summary:
    """Return what DescribeStreamSummary says of the stream, by one call."""
    said: Any = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    monitored = (name for each in said.get("EnhancedMonitoring", ()) for name in each.get("ShardLevelMetrics", ()))
    return Summary(
        name=said["StreamName"],
        arn=said["StreamARN"],
        created_s=said["StreamCreationTimestamp"].timestamp(),
        status=said["StreamStatus"],
        mode=said.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED"),
        retention_hours=said["RetentionPeriodHours"],
        open_shards=said["OpenShardCount"],
        consumers=said.get("ConsumerCount", 0),
        monitored=frozenset(monitored),
    )


def account(kinesis: KinesisClient) -> tuple[int, int]:
    """The account's open shards in this region, and how many it may have. One call, of one a second at most."""
    said = kinesis.describe_limits()
    return said["OpenShardCount"], said["ShardLimit"]


def fan_out_consumers(kinesis: KinesisClient, arn: str) -> list[str]:
    """The names of a stream's registered consumers."""
    pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn)
    return [consumer["ConsumerName"] for page in pages for consumer in page["Consumers"]]


def split(kinesis: KinesisClient, stream: str, shard_id: str, at: int) -> None:
    """Begin to split a shard; the stream is UPDATING until it is done."""
    kinesis.split_shard(StreamName=stream, ShardToSplit=shard_id, NewStartingHashKey=str(at))


def merge(kinesis: KinesisClient, stream: str, shard_id: str, adjacent: str) -> None:
    """Begin to merge two neighbours; the stream is UPDATING until it is done."""
    kinesis.merge_shards(StreamName=stream, ShardToMerge=shard_id, AdjacentShardToMerge=adjacent)


def recount(kinesis: KinesisClient, stream: str, count: int) -> None:
    """Begin to change the count of shards; the stream is UPDATING until it is done."""
    kinesis.update_shard_count(StreamName=stream, TargetShardCount=count, ScalingType="UNIFORM_SCALING")


def number(shard_id: str) -> int | None:
    """Return the number of a shard: shards are numbered in the order of creation. None for an id of another form."""
    digits = shard_id.removeprefix("shardId-")
    return int(digits) if digits.isdecimal() else None


def _listed(kinesis: KinesisClient, stream: str, shard_filter: dict[str, Any] | None) -> dict[str, KnownShard]:
    request: dict[str, Any] = {"StreamName": stream} | ({"ShardFilter": shard_filter} if shard_filter else {})
    answer = kinesis.list_shards(**request)
    found = list(answer["Shards"])
    while token := answer.get("NextToken"):
        answer = kinesis.list_shards(NextToken=token)
        found += answer["Shards"]
    return {shard["ShardId"]: of_listing(shard) for shard in found}


def of_listing(shard: Any) -> KnownShard:
    """A shard as ListShards describes it."""
    hash_keys, sequences = shard["HashKeyRange"], shard["SequenceNumberRange"]
    return KnownShard(
        shard["ShardId"],
        tuple(shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name)),
        "EndingSequenceNumber" not in sequences,
        (hash_keys["StartingHashKey"], hash_keys["EndingHashKey"]),
        int(sequences["StartingSequenceNumber"]),
    )
