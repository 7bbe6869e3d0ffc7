"""``penstock doctor``: credentials, the stream, the clock, permissions."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.admin.doctor import permissions
from consumer.admin.doctor.findings import Level
from tests.support import iam_policy
from tests.support.examined import GREEN, NOW_S, RED, YELLOW, Client, dynamodb, level_of, refused, subject, summary


def test_credentials() -> None:
    sts = Client(get_caller_identity=lambda: {"Arn": "arn:aws:iam::1:user/u", "Account": "1"})
    assert level_of("credentials", subject(clients={"sts": sts})) is GREEN
    sts = Client(get_caller_identity=refused("ExpiredToken"))
    assert level_of("credentials", subject(clients={"sts": sts})) is RED


@pytest.mark.parametrize(
    ("changes", "tasks", "level"),
    [
        ({}, None, GREEN),
        ({}, 4, GREEN),
        ({}, 5, YELLOW),
        ({"StreamStatus": "UPDATING"}, None, GREEN),
        ({"StreamStatus": "DELETING"}, None, RED),
        ({"RecordDistributionStrategy": "AUTO"}, None, YELLOW),
    ],
)
def test_the_stream(changes: dict[str, Any], tasks: int | None, level: Level) -> None:
    assert level_of("stream", subject(summary=summary(**changes), tasks=tasks)) is level


def test_a_stream_that_is_not_there() -> None:
    examined = subject(clients={"kinesis": Client(describe_stream_summary=refused("ResourceNotFoundException"))})
    del examined.__dict__["summary"]
    assert level_of("stream", examined) is RED


@pytest.mark.parametrize(
    ("kind", "code", "level"),
    [("KMS", "", GREEN), ("NONE", "", YELLOW), ("KMS", "KMSDisabledException", RED), ("KMS", "AccessDenied", RED)],
)
def test_encryption(kind: str, code: str, level: Level) -> None:
    kinesis = Client(
        get_shard_iterator=lambda **request: {"ShardIterator": "i"},
        get_records=refused(code) if code else lambda **request: {"Records": []},
    )
    assert level_of("encryption", subject(clients={"kinesis": kinesis}, summary=summary(EncryptionType=kind))) is level


@pytest.mark.parametrize(("skew_s", "level"), [(0, GREEN), (-4, GREEN), (12, YELLOW), (-12, YELLOW), (90, RED)])
def test_the_clock(skew_s: float, level: Level) -> None:
    examined = subject()
    examined.machine = dataclasses.replace(examined.machine, now=lambda: NOW_S + skew_s)
    assert level_of("clock", examined) is level


def simulation(denied: str = "") -> Client:
    def paginate(**request: Any) -> Any:
        for action in request["ActionNames"]:
            decisions = [
                {"EvalResourceName": arn, "EvalResourceDecision": "implicitDeny" if action == denied else "allowed"}
                for arn in request["ResourceArns"]
            ]
            yield {"EvaluationResults": [{"EvalActionName": action, "ResourceSpecificResults": decisions}]}

    return Client(get_paginator=lambda name: SimpleNamespace(paginate=paginate))


ROLE = "arn:aws:sts::123456789012:assumed-role/task/session"
STS = Client(get_caller_identity=lambda: {"Arn": ROLE, "Account": "123456789012"})


@pytest.mark.parametrize("action", sorted(iam_policy.actions()))
def test_an_action_that_the_role_may_not_call_is_named(action: str) -> None:
    downstream = [{"type": "parquet", "url": "s3://bucket/table"}, {"type": "kinesis", "stream": "enriched"}]
    clients = {"sts": STS, "iam": simulation(action), "kinesis": Client(), "dynamodb": dynamodb(index=None)}
    [finding] = permissions.permissions(subject(settings={"sink": downstream}, clients=clients))
    assert finding.level is RED
    assert action in finding.says
    assert "arn:aws:iam::123456789012:role/task" in finding.says


def test_a_role_that_may_do_all() -> None:
    clients = {"sts": STS, "iam": simulation(), "kinesis": Client(), "dynamodb": dynamodb()}
    assert level_of("permissions", subject(clients=clients)) is GREEN


@pytest.mark.parametrize(("index", "level"), [("ACTIVE", GREEN), (None, RED)])
def test_a_role_that_may_not_make_tables_is_right_where_they_are_there(index: str | None, level: Level) -> None:
    clients = {"sts": STS, "iam": simulation("dynamodb:CreateTable"), "kinesis": Client(), "dynamodb": dynamodb(index)}
    assert level_of("permissions", subject(clients=clients)) is level


def test_an_iam_that_the_caller_may_not_use_is_unknown() -> None:
    iam = Client(get_paginator=lambda name: SimpleNamespace(paginate=refused("AccessDenied")))
    clients = {"sts": STS, "iam": iam, "kinesis": Client(), "dynamodb": dynamodb()}
    assert level_of("permissions", subject(clients=clients)) is YELLOW


def test_the_simulated_actions_equal_the_documented_policy() -> None:
    """Each action on a resource that the documented policy allows, and every statement of it."""
    both = [{"type": "parquet", "url": "s3://bucket/table"}, {"type": "kinesis", "stream": "enriched"}]
    needs = list(permissions.needs(subject(settings={"sink": both}), "1", "eu-west-1", makes_tables=True))
    names = {
        "REGION": "eu-west-1",
        "ACCOUNT": "1",
        "STREAM": "events",
        "DOWNSTREAM": "enriched",
        "APPLICATION": "app",
        "BUCKET": "bucket",
        "TABLE": "table",
        "DEAD_LETTER": "dead",
    }
    asked = {(action, resource) for need in needs for action in need.actions for resource in need.resources}
    assert {action for action, _ in asked} == iam_policy.actions()
    for action, resource in asked:
        assert iam_policy.permits(action, resource, dict(sorted(names.items(), key=lambda item: -len(item[0])))), (
            action,
            resource,
        )
