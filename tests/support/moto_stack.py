"""Templates as moto takes them: without what it does not know, which it would report as complete all the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from consumer.local.process import LocalAWS
from tests.support.cloudformation import Stack

NO_MODEL = {
    "AWS::Athena::WorkGroup",
    "AWS::CloudWatch::Alarm",
    "AWS::ECS::CapacityProvider",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
}
"""Types that moto's CloudFormation does not make."""

LEFT_OUT = NO_MODEL | {"AWS::CloudWatch::Dashboard"}
"""A dashboard names alarms, so that it is left out with them."""


def body(stack: Stack) -> str:
    """The template with the stack's conditions decided, as JSON; encryption of streams is left out, too."""
    resources = {name: stack.decided(each) for name, each in stack.template["Resources"].items() if stack.is_made(name)}
    gone = {name for name, each in resources.items() if each["Type"] in LEFT_OUT}
    made = {name: _named(each, gone) for name, each in resources.items() if name not in gone}
    for each in made.values():
        each.pop("Condition", None)
        each.get("Properties", {}).pop("StreamEncryption", None)
    outputs = {
        name: each
        for name, each in stack.decided(stack.template.get("Outputs", {})).items()
        if not any(re.search(rf"\b{logical}\b", json.dumps(each["Value"])) for logical in gone)
    }
    return json.dumps({**stack.template, "Resources": made, "Outputs": outputs})


def create(aws: LocalAWS, name: str, path: Path, given: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Create a stack. Type and physical id of each resource that moto says it has made, by logical name."""
    stack = Stack(given, path)
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=body(stack),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in given.items()],
    )
    (described,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert described["StackStatus"] == "CREATE_COMPLETE", described
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return {
        each["LogicalResourceId"]: (each["ResourceType"], each["PhysicalResourceId"])
        for page in pages
        for each in page["StackResourceSummaries"]
    }


def _named(value: Any, gone: set[str]) -> Any:
    """With the logical name in place of a reference to what is left out."""
    if isinstance(value, list):
        return [_named(each, gone) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"} and value["Ref"] in gone:
        return value["Ref"]
    return {key: _named(each, gone) for key, each in value.items()}
