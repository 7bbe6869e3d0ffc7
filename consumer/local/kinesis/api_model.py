"""The members of each operation and their constraints, from the API model of Kinesis (2013-12-02, in botocore).

Blobs are ``bytes`` and times are milliseconds since the epoch; :mod:`consumer.local.codecs` decodes them.
"""

from __future__ import annotations

import re
from typing import Any

from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.shapes import Blob, Flag, ListOf, MapOf, Number, Shape, Struct, Text

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
