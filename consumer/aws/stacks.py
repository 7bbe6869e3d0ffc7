"""Stacks of CloudFormation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def described(cloudformation: Any, name: str) -> Mapping[str, Any] | None:
    """Return a stack as ``DescribeStacks`` describes it; None if there is no stack of this name."""
    from botocore.exceptions import ClientError

    try:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        said = error.response["Error"]
        if said.get("Code") == "ValidationError" and "does not exist" in said.get("Message", ""):
            return None
        raise
    found: Mapping[str, Any] = stack
    return found
