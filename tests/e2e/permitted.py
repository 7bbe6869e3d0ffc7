"""What tasks ask of AWS, their JVMs included: the policy of docs/security.md has all of it, and nothing besides.

Two tasks of ``test_operations.py`` start with the tables of the template, the second after rows were written; a task of
``test_scale_and_slice.py`` starts with KCL 2's table, and makes the others.
"""

from __future__ import annotations

from typing import Any

from consumer.leases.tables import OWNER_INDEX
from tests.e2e.rig import Rig
from tests.support import iam_policy as policy
from tests.support.cloudformation import Stack

MAKE_TABLES = "MakeTables"


def expect_rights_with_tables_of_the_template(rig: Rig, names: dict[str, str], first: str, second: str) -> None:
    """The tasks with these access keys have used every right but that to make tables."""
    uses = [rights(rig, names, key) for key in (first, second)]
    assert set.union(*uses) == {right for right in policy.rights_of(policy.statements()) if right[0] != MAKE_TABLES}
    always = {action for action, when in policy.explained().items() if when == "always"}
    assert always <= {action for _, action in uses[0]}
    expect_everything_in_its_place(rig, names)


def expect_rights_with_the_table_of_kcl_2(rig: Rig, names: dict[str, str], key: str) -> None:
    """The task with this access key has used every right to make tables."""
    wanted = {right for right in policy.rights_of(policy.statements()) if right[0] == MAKE_TABLES}
    assert wanted and wanted <= rights(rig, names, key)


def rights(rig: Rig, names: dict[str, str], key: str) -> set[policy.Right]:
    """What of the policy the task with this access key has used; nothing else was asked for."""
    refused, uses = policy.used(rig.aws.asked(key), policy.named(policy.statements(), names))
    assert not refused, (key, refused)
    return uses


def names_of(stream: str, application: str, **names: str) -> dict[str, str]:
    """What stands for the words in capitals of the policy."""
    here = {"REGION": "us-east-1", "ACCOUNT": "123456789012"}
    return {"STREAM": stream, "APPLICATION": application, **here, **names}


def make_tables_of_the_template(rig: Rig, stream: str, application: str) -> None:
    stack = Stack({"Application": application, "ImageTag": "1", "StreamName": stream})
    for table in stack.of_type("AWS::DynamoDB::Table").values():
        rig.dynamodb.create_table(**{name: table[name] for name in table if name in AT_CREATION})


AT_CREATION = {
    "TableName", "BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes",
    "DeletionProtectionEnabled",
}  # fmt: skip
"""Properties of a table that ``CreateTable`` takes under the same name."""


def make_table_of_kcl_2(rig: Rig, application: str) -> None:
    """A lease table without the index, and none beside it."""
    rig.dynamodb.create_table(
        TableName=application,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
    )


def expect_everything_in_its_place(rig: Rig, names: dict[str, str]) -> None:
    permitted: list[dict[str, Any]] = policy.named(policy.statements(), names)
    application = names["APPLICATION"]
    tables = [application, f"{application}-CoordinatorState", f"{application}-WorkerMetricStats"]
    assert {name for name in rig.dynamodb.list_tables()["TableNames"] if name.startswith(application)} == set(tables)
    for table in tables:
        arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}"
        assert policy.allowing(policy.Call("dynamodb:UpdateItem", arn), permitted), table
        assert not policy.allowing(policy.Call("dynamodb:Query", arn), permitted)
    index = f"arn:aws:dynamodb:us-east-1:123456789012:table/{application}/index/{OWNER_INDEX}"
    assert policy.allowing(policy.Call("dynamodb:Query", index), permitted)
    elsewhere = policy.Call("s3:PutObject", f"arn:aws:s3:::{names['BUCKET']}/elsewhere/")
    assert not policy.allowing(elsewhere, permitted)
