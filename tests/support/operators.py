"""Policies for those who call ``penstock`` outside of a task: deploy/cloudformation/operators.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.cloudformation import OPERATORS, PSEUDO, Stack, read

READ = "Read"
"""The policy that is needed with each of the others, and for every command that no other names."""


@dataclass(frozen=True)
class Policy:
    name: str
    commands: tuple[str, ...]
    description: str
    statements: list[dict[str, Any]]


def policies(
    *, application: str, stream: str, bucket: str, table: str, dead_letter: str, region: str = "us-east-1"
) -> dict[str, Policy]:
    """By name, with these names put in."""
    names = {"Application": application, "StreamName": stream, "TablePrefix": table, "DeadLetterPrefix": dead_letter}
    stack = Stack(names | {"Stack": application}, OPERATORS, beside=Stack(names | {"ImageTag": "1"}))
    found = {}
    for name, resource in stack.resources.items():
        given = resource["Properties"]
        text = json.dumps(given["PolicyDocument"]["Statement"]).replace(":::Bucket", f":::{bucket}")
        statements = json.loads(text.replace(f":{PSEUDO['AWS::Region']}:", f":{region}:"))
        found[name] = Policy(name, tuple(resource["Metadata"]["Commands"]), given["Description"], statements)
    return found


def policy_of(words: Iterable[str]) -> str:
    """The policy that names the command of a shell's line; ``Read`` if none does."""
    words = {"dead-letters" if word == "dlq" else word for word in words}
    for name, resource in read(OPERATORS)["Resources"].items():
        if any(words.issuperset(each.split()) for each in resource["Metadata"]["Commands"]):
            return str(name)
    return READ
