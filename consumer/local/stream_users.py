"""Services that read or write a Kinesis stream on AWS. moto accepts the stream, but would never deliver a record."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from consumer.local.request import Request

STREAM = re.compile(r"arn:aws[\w-]*:kinesis:[\w-]*:\d*:stream\\?/")
"""The ARN of a stream, as JSON may have it."""


class Use(NamedTuple):
    """Requests that connect a stream: those whose operation or path matches ``at``, and whose body has ``text``."""

    what: str
    at: re.Pattern[str]
    text: re.Pattern[str] = STREAM


USES = {
    "firehose": Use("as the source of Firehose", re.compile("CreateDeliveryStream")),
    "pipes": Use("in EventBridge Pipes", re.compile("/v1/pipes/[^/]*")),
    "events": Use("as the target of an EventBridge rule", re.compile("PutTargets")),
    "scheduler": Use("as the target of a schedule", re.compile("/schedules/[^/]*")),
    "lambda": Use("as the event source of Lambda", re.compile("/event-source-mappings/?[^/]*")),
    "logs": Use("as the destination of CloudWatch Logs", re.compile("PutSubscriptionFilter|PutDestination")),
    "iot": Use("in IoT rules", re.compile("/rules/[^/]*"), re.compile(r'"kinesis"\s*:')),
    "dms": Use("as the target of DMS", re.compile("CreateEndpoint|ModifyEndpoint")),
    "kinesisanalytics": Use("in Managed Service for Apache Flink", re.compile("CreateApplication|AddApplicationInput")),
    "tagging": Use(
        "in the Resource Groups Tagging API",
        re.compile("GetResources|TagResources|UntagResources"),
        re.compile(rf'{STREAM.pattern}|"kinesis(:stream)?"'),
    ),
    "resource-groups": Use(
        "in resource groups",
        re.compile("/groups|/create-group|/update-group-query|/group-resources"),
        re.compile(rf"{STREAM.pattern}|AWS::Kinesis::Stream\b"),
    ),
}
"""By the name that the service has in signatures."""

SKIPPED_TYPES = (
    "AWS::IoT::TopicRule",
    "AWS::Kinesis::ResourcePolicy",
    "AWS::Kinesis::StreamConsumer",
    "AWS::KinesisAnalytics::Application",
    "AWS::KinesisAnalyticsV2::Application",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Logs::Destination",
    "AWS::Logs::SubscriptionFilter",
    "AWS::Pipes::Pipe",
    "AWS::Scheduler::Schedule",
)
"""Types of CloudFormation that moto would skip, in a stack that it reports as complete."""
USING_TYPES = ("AWS::Events::Rule", "AWS::Lambda::EventSourceMapping")
"""Types of CloudFormation that moto creates, even with a stream that they would not use."""


def refused(request: Request) -> str | None:
    """Return why a request to a service other than Kinesis cannot be performed; None if it can."""
    use = USES.get(request.service)
    if use is None or not use.at.fullmatch(_at(request)):
        return None
    if use.text.search(request.body.decode("utf-8", "replace")) is None:
        return None
    return f"The local AWS does not support Kinesis streams {use.what}: it would not use them."


def refused_resource(kind: str, resource: dict[str, Any]) -> str | None:
    """Return why a resource of a template cannot be created; None if it can. Its references are resolved."""
    if kind in USING_TYPES and STREAM.search(json.dumps(resource.get("Properties", {}), default=str)):
        return f"The local AWS does not support {kind} with a Kinesis stream: no record would be delivered."
    return None


def _at(request: Request) -> str:
    """The operation; in services whose requests do not name it, the path without the date of the API."""
    return request.operation or re.sub(r"^/\d{4}-\d\d-\d\d(?=/)", "", request.path)
