"""What tasks ask of AWS, their JVMs included: the policy of docs/security.md has all of it, and nothing besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from consumer.leases.tables import OWNER_INDEX
from consumer.local.process import LocalAWS
from tests.e2e.rig import UP_S, Rig, Worker, wait_until
from tests.support import iam_policy as policy
from tests.support.cloudformation import Stack

RECORDS = 40
DOWNSTREAM = "permitted-down"
MAKE_TABLES = "MakeTables"


def configured(rig: Rig, application: str) -> Path:
    """A configuration that uses everything: two kinds of sinks, dead letters, a fixed start, KCL's metrics."""
    path = rig.folder / f"{application}.toml"
    path.write_text(f"""
[stream]
name = "{rig.name}"
application = "{application}"
start = "LATEST"

[model]
factory = "tests.e2e.models:Echo"
version = "test-1"
threads = 1

[health]
port = 0

[log]
format = "json"

[kcl.properties]
metricsLevel = "SUMMARY"
metricsBufferTimeMillis = 500

[dead_letter]
url = "s3://{rig.name}/letters"

[[sink]]
type = "parquet"
url = "s3://{rig.name}/{application}"
flush_interval_s = 1

[[sink]]
type = "kinesis"
stream = "{DOWNSTREAM}"
""")
    return path


def test_tasks_ask_for_what_the_policy_permits_and_the_policy_permits_no_more(tmp_path: Path) -> None:
    """Over three starts: with the tables of the template, again after rows were written, and with KCL 2's table."""
    with LocalAWS() as aws:
        rig = Rig(aws, "permitted", tmp_path)
        rig.kinesis.create_stream(StreamName=DOWNSTREAM, ShardCount=1)
        rig.create(shards=1)
        rig.aws.client("s3").create_bucket(Bucket=rig.name)
        make_tables_of_the_template(rig, "new")
        make_table_of_kcl_2(rig, "old")
        aws.calls(forget=True)
        try:
            consume(rig, "new", "first")
            consume(rig, "new", "second")
            start(rig, "old", "third").leave()
        finally:
            rig.clean()
        uses = [rights(rig, "new", "first"), rights(rig, "new", "second"), rights(rig, "old", "third")]
        expect_everything_in_its_place(rig, "new")
    assert set.union(*uses) == policy.rights_of(policy.statements())
    assert not [right for use in uses[:2] for right in use if right[0] == MAKE_TABLES]
    always = {action for action, when in policy.explained().items() if when == "always"}
    assert always <= {action for _, action in uses[0]}


def rights(rig: Rig, application: str, key: str) -> set[policy.Right]:
    """What of the policy the task with this access key has used; nothing else was asked for."""
    refused, uses = policy.used(rig.aws.asked(key), policy.named(policy.statements(), names_of(rig, application)))
    assert refused == set()
    return uses


def names_of(rig: Rig, application: str) -> dict[str, str]:
    names = {"STREAM": rig.name, "DOWNSTREAM": DOWNSTREAM, "APPLICATION": application, "TABLE": application}
    return names | {"BUCKET": rig.name, "DEAD_LETTER": "letters", "REGION": "us-east-1", "ACCOUNT": "123456789012"}


def start(rig: Rig, application: str, key: str) -> Worker:
    worker = rig.start(configured(rig, application), AWS_ACCESS_KEY_ID=key)
    wait_until(lambda: worker.stats()["shards"], UP_S, "a shard is leased")
    return worker


def consume(rig: Rig, application: str, key: str) -> None:
    """A start, records, a bad one, and an end."""
    worker = start(rig, application, key)
    rig.put([*((json.dumps({"text": f"text {n}"}).encode(), str(n)) for n in range(RECORDS)), (b"no JSON", "0")])
    wait_until(lambda: worker.stats()["durable"] == RECORDS + 1, UP_S, "every record is durable")
    wait_until(lambda: "monitoring" in services(rig, key), UP_S, "KCL's metrics")
    assert worker.leave() == 0


def services(rig: Rig, key: str) -> set[str]:
    return {each["service"] for each in rig.aws.asked(key)}


def make_tables_of_the_template(rig: Rig, application: str) -> None:
    stack = Stack({"Application": application, "ImageTag": "1", "StreamName": rig.name})
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


def expect_everything_in_its_place(rig: Rig, application: str) -> None:
    permitted: list[dict[str, Any]] = policy.named(policy.statements(), names_of(rig, application))
    tables = [name for name in rig.dynamodb.list_tables()["TableNames"] if name.startswith(application)]
    assert len(tables) == 3
    for table in tables:
        arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}"
        assert policy.allowing(policy.Call("dynamodb:UpdateItem", arn), permitted), table
        assert not policy.allowing(policy.Call("dynamodb:Query", arn), permitted)
    index = f"arn:aws:dynamodb:us-east-1:123456789012:table/{application}/index/{OWNER_INDEX}"
    assert policy.allowing(policy.Call("dynamodb:Query", index), permitted)
    elsewhere = policy.Call("s3:PutObject", f"arn:aws:s3:::{rig.name}/elsewhere/")
    assert not policy.allowing(elsewhere, permitted)
