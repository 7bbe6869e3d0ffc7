"""The members of each operation and their constraints, from the API model of Kinesis (2013-12-02, in botocore).

Blobs are ``bytes`` and times are milliseconds since the epoch; :mod:`consumer.local.codecs` decodes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from consumer.local.kinesis.errors import KinesisError, malformed


class Shape(Protocol):
    """The type of a member, with its constraints."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """Yield each constraint that ``value`` violates, as AWS words it. ``path`` is the name of the member.

        :raises KinesisError: ``SerializationException`` if the value has the wrong type.
        """
        ...


def _failed(value: object, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


def _of_type(value: object, kind: type, path: str) -> None:
    if type(value) is not kind:
        raise malformed(f"{path} must be {kind.__name__}; it is {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Text:
    """A string of ``least`` to ``most`` characters. If they are set, it matches ``pattern`` and is one of ``among``."""

    least: int = 0
    most: int = 2**31
    pattern: re.Pattern[str] | None = None
    among: tuple[str, ...] = ()

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, str, path)
        if len(value) < self.least:
            yield _failed(value, path, f"have length greater than or equal to {self.least}")
        if len(value) > self.most:
            yield _failed(value, path, f"have length less than or equal to {self.most}")
        if self.pattern and not self.pattern.fullmatch(value):
            yield _failed(value, path, f"satisfy regular expression pattern: {self.pattern.pattern}")
        if self.among and value not in self.among:
            yield _failed(value, path, f"satisfy enum value set: [{', '.join(self.among)}]")


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from ``least`` to ``most``."""

    least: int = 0
    most: int = 2**63

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, int, path)
        if value < self.least:
            yield _failed(value, path, f"have value greater than or equal to {self.least}")
        if value > self.most:
            yield _failed(value, path, f"have value less than or equal to {self.most}")


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, bool, path)
        yield from ()


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of any length. Record sizes are checked per stream."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, bytes, path)
        yield from ()


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure. Members that are not listed are ignored, as AWS does."""

    required: tuple[str, ...]
    members: Mapping[str, Shape] = field(hash=False)

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, dict, path or "the body")
        dot = f"{path}." if path else ""
        for name in self.required:
            if value.get(name) is None:
                yield _failed("null", dot + _lower(name), "not be null")
        for name, shape in self.members.items():
            member = value.get(name)
            if member is not None:
                yield from shape.problems(member, dot + _lower(name))


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of ``least`` to ``most`` members."""

    member: Shape
    least: int
    most: int

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, list, path)
        yield from _sized(value, path, self.least, self.most)
        for place, member in enumerate(value, 1):
            yield from self.member.problems(member, f"{path}.{place}.member")


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map of ``least`` to ``most`` entries."""

    key: Shape
    value: Shape
    least: int
    most: int

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, dict, path)
        yield from _sized(value, path, self.least, self.most)
        for key, member in value.items():
            yield from self.key.problems(key, f"{path}.key")
            yield from self.value.problems(member, f"{path}.{key}.member")


def _sized(value: Any, path: str, least: int, most: int) -> Iterator[str]:
    if len(value) < least:
        yield _failed(f"[{len(value)} members]", path, f"have length greater than or equal to {least}")
    if len(value) > most:
        yield _failed(f"[{len(value)} members]", path, f"have length less than or equal to {most}")


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:] if not name.startswith("ARN") else name


NAME = Text(1, 128, re.compile(r"[a-zA-Z0-9_.-]+"))
STREAM_ARN = Text(1, 2048, re.compile(r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+"))
RESOURCE_ARN = Text(1, 2048, re.compile(r"arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+"))
CONSUMER_ARN = Text(1, 2048, re.compile(r"arn:aws.*:kinesis:.*:\d{12}:.*stream/[\w.-]+/consumer/[\w.-]+:\d+"))
HASH_KEY = Text(pattern=re.compile(r"0|([1-9]\d{0,38})"))
SEQUENCE_NUMBER = Text(pattern=re.compile(r"0|([1-9]\d{0,128})"))
PARTITION_KEY = Text(1, 256)
TOKEN = Text(1, 1_048_576)
TIME = Number()
COUNT = Number(1, 2**31)
PAGE = Number(1, 10_000)
TAG_KEY = Text(1, 128)
TAGS = MapOf(TAG_KEY, Text(0, 256), 1, 200)
TAG_KEYS = ListOf(TAG_KEY, 1, 50)
RECORD_KIB = Number(1024, 10_240)
METRIC_NAMES = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)
METRICS = ListOf(Text(among=(*METRIC_NAMES, "ALL")), 1, 7)
MODE = Struct(("StreamMode",), {"StreamMode": Text(among=("PROVISIONED", "ON_DEMAND"))})
COMMITMENT = Struct(("Status",), {"Status": Text(among=("ENABLED", "DISABLED"))})
DISTRIBUTION = Text(among=("AUTO", "USER_PARTITION_KEY"))
ITERATOR_TYPES = ("AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON")
POSITION = Struct(("Type",), {"Type": Text(among=ITERATOR_TYPES), "SequenceNumber": SEQUENCE_NUMBER, "Timestamp": TIME})
FILTER_TYPES = (
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
)
FILTER = Struct(("Type",), {"Type": Text(among=FILTER_TYPES), "ShardId": NAME, "Timestamp": TIME})
ENTRY = Struct(
    ("Data",),
    {"Data": Blob(), "PartitionKey": PARTITION_KEY, "ExplicitHashKey": HASH_KEY},
)


def _on_stream(*required: str, **members: Shape) -> Struct:
    """The members of an operation on one stream, which is named by its name or its ARN."""
    return Struct(required, {"StreamName": NAME, "StreamARN": STREAM_ARN, "DryRun": Flag(), **members})


def _on_consumer() -> Struct:
    return Struct((), {"StreamARN": STREAM_ARN, "ConsumerName": NAME, "ConsumerARN": CONSUMER_ARN})


OPERATIONS: dict[str, Struct] = {
    "AddTagsToStream": _on_stream("Tags", Tags=TAGS),
    "CreateStream": _on_stream(
        "StreamName",
        ShardCount=COUNT,
        StreamModeDetails=MODE,
        Tags=TAGS,
        MaxRecordSizeInKiB=RECORD_KIB,
        RecordDistributionStrategy=DISTRIBUTION,
        WarmThroughputMiBps=Number(),
    ),
    "DecreaseStreamRetentionPeriod": _on_stream("RetentionPeriodHours", RetentionPeriodHours=Number(-(2**31))),
    "DeleteStream": _on_stream(EnforceConsumerDeletion=Flag()),
    "DeregisterStreamConsumer": _on_consumer(),
    "DescribeAccountSettings": Struct((), {}),
    "DescribeLimits": Struct((), {}),
    "DescribeStream": _on_stream(Limit=PAGE, ExclusiveStartShardId=NAME),
    "DescribeStreamConsumer": _on_consumer(),
    "DescribeStreamSummary": _on_stream(),
    "DisableEnhancedMonitoring": _on_stream("ShardLevelMetrics", ShardLevelMetrics=METRICS),
    "EnableEnhancedMonitoring": _on_stream("ShardLevelMetrics", ShardLevelMetrics=METRICS),
    "GetRecords": Struct(
        ("ShardIterator",),
        {"ShardIterator": Text(1, 512), "Limit": PAGE, "StreamARN": STREAM_ARN, "DryRun": Flag()},
    ),
    "GetShardIterator": _on_stream(
        "ShardId",
        "ShardIteratorType",
        ShardId=NAME,
        ShardIteratorType=Text(among=ITERATOR_TYPES),
        StartingSequenceNumber=SEQUENCE_NUMBER,
        Timestamp=TIME,
    ),
    "IncreaseStreamRetentionPeriod": _on_stream("RetentionPeriodHours", RetentionPeriodHours=Number(-(2**31))),
    "ListShards": _on_stream(
        NextToken=TOKEN, ExclusiveStartShardId=NAME, MaxResults=PAGE, StreamCreationTimestamp=TIME, ShardFilter=FILTER
    ),
    "ListStreamConsumers": Struct(
        ("StreamARN",),
        {"StreamARN": STREAM_ARN, "NextToken": TOKEN, "MaxResults": PAGE, "StreamCreationTimestamp": TIME},
    ),
    "ListStreams": Struct((), {"Limit": PAGE, "ExclusiveStartStreamName": NAME, "NextToken": TOKEN}),
    "ListTagsForResource": Struct(("ResourceARN",), {"ResourceARN": RESOURCE_ARN}),
    "ListTagsForStream": _on_stream(ExclusiveStartTagKey=TAG_KEY, Limit=Number(1, 50)),
    "MergeShards": _on_stream("ShardToMerge", "AdjacentShardToMerge", ShardToMerge=NAME, AdjacentShardToMerge=NAME),
    "PutRecord": _on_stream(
        "Data",
        Data=Blob(),
        PartitionKey=PARTITION_KEY,
        ExplicitHashKey=HASH_KEY,
        SequenceNumberForOrdering=SEQUENCE_NUMBER,
    ),
    "PutRecords": _on_stream("Records", Records=ListOf(ENTRY, 1, 500)),
    "RegisterStreamConsumer": Struct(
        ("StreamARN", "ConsumerName"), {"StreamARN": STREAM_ARN, "ConsumerName": NAME, "Tags": TAGS}
    ),
    "RemoveTagsFromStream": _on_stream("TagKeys", TagKeys=TAG_KEYS),
    "SplitShard": _on_stream("ShardToSplit", "NewStartingHashKey", ShardToSplit=NAME, NewStartingHashKey=HASH_KEY),
    "SubscribeToShard": Struct(
        ("ConsumerARN", "ShardId", "StartingPosition"),
        {"ConsumerARN": CONSUMER_ARN, "ShardId": NAME, "StartingPosition": POSITION, "DryRun": Flag()},
    ),
    "TagResource": Struct(("ResourceARN", "Tags"), {"ResourceARN": RESOURCE_ARN, "Tags": TAGS}),
    "UntagResource": Struct(("ResourceARN", "TagKeys"), {"ResourceARN": RESOURCE_ARN, "TagKeys": TAG_KEYS}),
    "UpdateAccountSettings": Struct(
        ("MinimumThroughputBillingCommitment",), {"MinimumThroughputBillingCommitment": COMMITMENT}
    ),
    "UpdateMaxRecordSize": _on_stream("MaxRecordSizeInKiB", MaxRecordSizeInKiB=RECORD_KIB),
    "UpdateShardCount": _on_stream(
        "TargetShardCount", "ScalingType", TargetShardCount=COUNT, ScalingType=Text(among=("UNIFORM_SCALING",))
    ),
    "UpdateStreamMode": Struct(
        ("StreamARN", "StreamModeDetails"),
        {"StreamARN": STREAM_ARN, "StreamModeDetails": MODE, "WarmThroughputMiBps": Number()},
    ),
    "UpdateStreamRecordDistributionStrategy": Struct(
        ("StreamARN", "RecordDistributionStrategy"),
        {"StreamARN": STREAM_ARN, "RecordDistributionStrategy": DISTRIBUTION},
    ),
    "UpdateStreamWarmThroughput": _on_stream("WarmThroughputMiBps", WarmThroughputMiBps=Number()),
}


def check(operation: str, request: Any) -> None:
    """Check a request against the API model.

    :raises KinesisError: ``ValidationException`` with every violation, or ``SerializationException``.
    """
    problems = list(OPERATIONS[operation].problems(request, ""))
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise KinesisError(
            "ValidationException", f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}"
        )
