"""Parameters of the template, and what a stack of it gives a task."""

from __future__ import annotations

from typing import Any

from consumer.config.load import parse
from consumer.config.settings import Settings
from tests.support.cloudformation import Stack

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
WITH_DOWNSTREAM = GIVEN | {"DownstreamName": "enriched-events"}
EXISTING_VPC = {"VpcId": "vpc-0a1b2c3d", "SubnetIds": ["subnet-0a1b2c3d", "subnet-1a1b2c3d"]}
MODEL = {"model": {"factory": "examples.hello:Hello", "version": "1"}}


def container(stack: Stack) -> dict[str, Any]:
    (found,) = stack.resources["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return dict(found)


def settings(stack: Stack) -> Settings:
    """The settings of a task of the stack: the model of its image, and the environment of its definition."""
    environment = {each["Name"]: each["Value"] for each in container(stack)["Environment"]}
    return parse(
        MODEL, {name: value.replace("s3://Bucket/", "s3://the-bucket/") for name, value in environment.items()}
    )


def statements(stack: Stack, policy: str) -> list[dict[str, Any]]:
    return list(stack.resources[policy]["Properties"]["PolicyDocument"]["Statement"])
