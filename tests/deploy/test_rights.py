"""Policies in the templates: nothing is permitted by a wildcard without a reason beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest

from consumer.cli import main
from tests.docs import rendered
from tests.support import iam_policy, operators
from tests.support.cloudformation import OPERATORS, TEMPLATE, Stack, read

NAMES = {"application": "app", "stream": "events", "bucket": "bucket", "table": "rows", "dead_letter": "dead"}


def every_policy() -> Iterator[Any]:
    for path in sorted(TEMPLATE.parent.glob("*.yaml")):
        for name, each in read(path)["Resources"].items():
            if each["Type"] == "AWS::IAM::ManagedPolicy":
                yield pytest.param(each, id=f"{path.stem}-{name}")


def statements(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of them, whatever the stack's conditions say."""
    for each in policy["Properties"]["PolicyDocument"]["Statement"]:
        yield from (one for one in each["Fn::If"][1:] if "Sid" in one) if "Fn::If" in each else [each]


def patterns(statement: dict[str, Any]) -> list[str]:
    """Of its resources, the names and patterns as they are written."""
    found = []
    for each in statement["Resource"]:
        text = each.get("Fn::Sub", "") if isinstance(each, dict) else each
        found.append(text if isinstance(text, str) else text[0])
    return found


def is_wild(pattern: str) -> bool:
    """Everything below a prefix of a bucket is what a prefix is for, and so are the streams of a log group."""
    is_prefix = ":s3:::" in pattern and pattern.endswith("/*")
    is_group = ":log-group:" in pattern and pattern.endswith(":*")
    return "*" in (pattern[:-2] if is_prefix or is_group else pattern)


@pytest.mark.parametrize("policy", list(every_policy()))
def test_a_wildcard_has_its_reason_and_a_reason_its_wildcard(policy: dict[str, Any]) -> None:
    reasons = policy.get("Metadata", {}).get("Wildcards", {})
    for statement in statements(policy):
        assert not [action for action in statement["Action"] if "*" in action]
    wild = {each["Sid"] for each in statements(policy) if any(map(is_wild, patterns(each)))}
    assert wild == reasons.keys()
    assert all(reason.endswith(".") for reason in reasons.values())


def test_no_role_has_a_policy_of_its_own() -> None:
    for path in TEMPLATE.parent.glob("*.yaml"):
        for each in read(path)["Resources"].values():
            if each["Type"] == "AWS::IAM::Role":
                assert "Policies" not in each["Properties"]


def test_an_operator_who_only_reads_can_change_nothing() -> None:
    read_only = ("Describe", "List", "Get", "Scan", "Simulate")
    policies = operators.policies(**NAMES)
    for statement in policies[operators.READ].statements:
        assert all(action.partition(":")[2].startswith(read_only) for action in statement["Action"])
    for name, policy in policies.items():
        assert not [each for each in policy.statements if "dynamodb:DeleteTable" in each["Action"] and name != "Replay"]


def test_only_replays_delete_tables_and_only_their_own() -> None:
    (deleting,) = [
        each for each in operators.policies(**NAMES)["Replay"].statements if "dynamodb:DeleteTable" in each["Action"]
    ]
    assert [each.rpartition(":")[2] for each in deleting["Resource"]] == ["table/app-replay-*"]


def test_a_right_that_is_missing_and_one_that_nobody_uses_are_seen() -> None:
    """What the end-to-end tests ask of their recordings."""
    given = operators.policies(**NAMES)["Reshard"].statements
    split = {"service": "kinesis", "operation": "SplitShard", "resource": "events"}
    others = [
        split | {"resource": "another"},
        split | {"operation": "DeleteStream"},
        {"service": "s3", "operation": "HeadObject", "resource": "bucket/rows/dt=2026-11-27/"},
    ]
    refused, uses = iam_policy.used([split, *others, {**split, "operation": "GetCallerIdentity"}], given)
    assert {(call.action, call.resource.rpartition(":")[2]) for call in refused} == {
        ("kinesis:SplitShard", "stream/another"),
        ("kinesis:DeleteStream", "stream/events"),
        ("s3:GetObject", "bucket/rows/dt=2026-11-27/"),
    }
    assert uses == {("ChangeShards", "kinesis:SplitShard")}
    assert ("ChangeShards", "kinesis:MergeShards") in iam_policy.rights_of(given) - uses


def test_every_command_that_changes_something_has_a_policy() -> None:
    for context in rendered.contexts():
        if any(option.name in ("execute", "repair") for option in context.command.params):
            words = context.command_path.split()[1:]
            flags = ["--repair"] if "audit" in words else []
            assert operators.policy_of([*words, *flags]) != operators.READ, words


def test_the_commands_of_a_policy_exist() -> None:
    for policy in operators.policies(**NAMES).values():
        for line in policy.commands:
            command: click.Command = main
            for word in line.split() if line != "all others" else []:
                if word.startswith("--"):
                    assert word in {name for each in command.params for name in each.opts}
                else:
                    assert isinstance(command, click.Group)
                    command = command.commands[word]


def test_a_second_stream_and_a_key_are_permitted_where_there_are_any() -> None:
    names = {"Application": "app", "StreamName": "events", "DownstreamName": "more", "KmsKeyArn": "arn:key"}
    beside = Stack(names | {"ImageTag": "1"})
    stack = Stack(names | {"Stack": "app"}, OPERATORS, beside=beside)
    sids = {name: [each["Sid"] for each in statements(policy)] for name, policy in stack.resources.items()}
    assert "UseTheKey" in sids["Read"] and "WriteDownstream" in sids["Redrive"]
    assert [each["KmsMasterKeyId"] for each in beside.of_type("AWS::SNS::Topic").values()] == ["arn:key"]
