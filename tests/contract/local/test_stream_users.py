"""Other services refuse a Kinesis stream that they would silently not use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from consumer.local.process import LocalAWS
from consumer.local.stream_users import SKIPPED_TYPES, USES, USING_TYPES

STREAM = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"
ROLE = "arn:aws:iam::123456789012:role/r"
ONCE = Config(retries={"total_max_attempts": 1})
TARGET = [{"Id": "1", "Arn": STREAM}]
SCHEDULE = {"ScheduleExpression": "rate(5 minutes)", "FlexibleTimeWindow": {"Mode": "OFF"}}

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "firehose",
        "create_delivery_stream",
        {
            "DeliveryStreamName": "d",
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": STREAM, "RoleARN": ROLE},
            "ExtendedS3DestinationConfiguration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::b"},
        },
    ),
    ("pipes", "create_pipe", {"Name": "p", "RoleArn": ROLE, "Source": STREAM, "Target": QUEUE}),
    ("pipes", "create_pipe", {"Name": "p", "RoleArn": ROLE, "Source": QUEUE, "Target": STREAM}),
    ("events", "put_targets", {"Rule": "r", "Targets": TARGET}),
    ("scheduler", "create_schedule", {"Name": "x", **SCHEDULE, "Target": {"Arn": STREAM, "RoleArn": ROLE}}),
    ("lambda", "create_event_source_mapping", {"EventSourceArn": STREAM, "FunctionName": "f"}),
    ("logs", "put_destination", {"destinationName": "d", "targetArn": STREAM, "roleArn": ROLE}),
    (
        "logs",
        "put_subscription_filter",
        {"logGroupName": "g", "filterName": "f", "filterPattern": "", "destinationArn": STREAM},
    ),
    (
        "iot",
        "create_topic_rule",
        {
            "ruleName": "r",
            "topicRulePayload": {"sql": "s", "actions": [{"kinesis": {"roleArn": ROLE, "streamName": "s"}}]},
        },
    ),
    (
        "dms",
        "create_endpoint",
        {
            "EndpointIdentifier": "e",
            "EndpointType": "target",
            "EngineName": "kinesis",
            "KinesisSettings": {"StreamArn": STREAM},
        },
    ),
    (
        "kinesisanalyticsv2",
        "add_application_input",
        {
            "ApplicationName": "a",
            "CurrentApplicationVersionId": 1,
            "Input": {
                "NamePrefix": "x",
                "KinesisStreamsInput": {"ResourceARN": STREAM},
                "InputSchema": {
                    "RecordFormat": {"RecordFormatType": "JSON"},
                    "RecordColumns": [{"Name": "a", "SqlType": "INT"}],
                },
            },
        },
    ),
    ("resourcegroupstaggingapi", "get_resources", {"ResourceTypeFilters": ["kinesis:stream"]}),
    ("resourcegroupstaggingapi", "tag_resources", {"ResourceARNList": [STREAM], "Tags": {"a": "b"}}),
    (
        "resource-groups",
        "create_group",
        {
            "Name": "g",
            "ResourceQuery": {
                "Type": "TAG_FILTERS_1_0",
                "Query": json.dumps({"ResourceTypeFilters": ["AWS::Kinesis::Stream"], "TagFilters": [{"Key": "a"}]}),
            },
        },
    ),
]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


def test_a_service_that_would_not_use_the_stream_refuses_it(aws: LocalAWS) -> None:
    tried = set()
    for service, call, request in CALLS:
        client = aws.client(service, config=ONCE)
        tried.add(client.meta.service_model.signing_name)
        with pytest.raises(ClientError, match="does not support Kinesis streams") as refused:
            getattr(client, call)(**request)
        assert refused.value.response["Error"]["Code"] == "NotImplemented", (service, call)
    assert tried == USES.keys()


def test_the_same_services_work_without_a_stream(aws: LocalAWS) -> None:
    pipes, events, logs = (aws.client(name, config=ONCE) for name in ("pipes", "events", "logs"))
    pipes.create_pipe(Name="p", RoleArn=ROLE, Source=QUEUE, Target=QUEUE)
    events.put_rule(Name="r", ScheduleExpression="rate(5 minutes)")
    assert events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": QUEUE}])["FailedEntryCount"] == 0
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": 0, "message": STREAM}])


def test_what_is_refused_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/local-aws.md").read_text()
    assert [kind for kind in (*SKIPPED_TYPES, *USING_TYPES) if f"`{kind}`" not in page] == []
    calls = {name for use in USES.values() for name in use.at.pattern.split("|") if "/" not in name}
    calls |= {"".join(word.title() for word in call.split("_")) for _, call, _ in CALLS}
    assert [name for name in sorted(calls) if not re.search(rf"\b{name}\b", page)] == []


def test_a_service_that_is_missing_is_named(aws: LocalAWS) -> None:
    with pytest.raises(ClientError, match="has no service cloudcontrolapi") as refused:
        aws.client("cloudcontrol", config=ONCE).create_resource(TypeName="AWS::Kinesis::Stream", DesiredState="{}")
    assert refused.value.response["Error"]["Code"] == "NotImplemented"
