"""What a task asks of AWS, its JVM included: the policy of docs/security.md has all of it, and nothing besides."""

from __future__ import annotations

import json
from pathlib import Path

from consumer.local.process import LocalAWS
from tests.e2e.rig import UP_S, Rig, wait_until
from tests.support import iam_policy as policy

RECORDS = 40


def configured(rig: Rig, downstream: str) -> Path:
    """Everything that AWS is asked for: two kinds of sinks, dead letters, a start that is fixed, KCL's metrics."""
    path = rig.folder / "penstock.toml"
    path.write_text(f"""
[stream]
name = "{rig.name}"
application = "{rig.name}-application"
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
url = "s3://{rig.name}/table"
flush_interval_s = 1

[[sink]]
type = "kinesis"
stream = "{downstream}"
""")
    return path


def test_a_task_asks_for_what_the_policy_permits_and_the_policy_permits_no_more(tmp_path: Path) -> None:
    with LocalAWS() as aws:
        rig = Rig(aws, "permitted", tmp_path)
        try:
            consume(rig)
        finally:
            rig.clean()


def consume(rig: Rig) -> None:
    """A start, records, one that is bad, an end."""
    names = {"STREAM": rig.name, "DOWNSTREAM": f"{rig.name}-down", "APPLICATION": f"{rig.name}-application"}
    names |= {"BUCKET": rig.name, "TABLE": "table", "DEAD_LETTER": "letters"}
    names |= {"REGION": "us-east-1", "ACCOUNT": "123456789012"}
    rig.kinesis.create_stream(StreamName=names["DOWNSTREAM"], ShardCount=1)
    rig.create(shards=1)
    s3 = rig.aws.client("s3")
    s3.create_bucket(Bucket=rig.name)
    rig.aws.calls(forget=True)

    worker = rig.start(configured(rig, names["DOWNSTREAM"]))
    wait_until(lambda: worker.stats()["shards"], UP_S, "a shard is leased")
    rig.put([*((json.dumps({"text": f"text {n}"}).encode(), str(n)) for n in range(RECORDS)), (b"no JSON", "0")])
    wait_until(lambda: worker.stats()["durable"] == RECORDS + 1, UP_S, "every record is durable")
    wait_until(lambda: "monitoring" in rig.aws.calls(), UP_S, "KCL's metrics")
    assert worker.leave() == 0

    needed = policy.needed(rig.aws.calls())
    assert needed <= policy.actions(), needed - policy.actions()
    always = {action for action, when in policy.explained().items() if when == "always"}
    assert always <= needed, always - needed
    expect_everything_in_its_place(rig, names)


def expect_everything_in_its_place(rig: Rig, names: dict[str, str]) -> None:
    tables = rig.dynamodb.list_tables()["TableNames"]
    assert len(tables) == 3
    for table in tables:
        arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}"
        assert policy.permits("dynamodb:UpdateItem", arn, names), table
        assert not policy.permits("dynamodb:Query", arn, names)
    keys = [found["Key"] for found in rig.aws.client("s3").list_objects_v2(Bucket=rig.name)["Contents"]]
    assert {key.partition("/")[0] for key in keys} >= {"table", "letters"}
    for key in keys:
        assert policy.permits("s3:PutObject", f"arn:aws:s3:::{rig.name}/{key}", names), key
    assert not policy.permits("s3:PutObject", f"arn:aws:s3:::{rig.name}/elsewhere", names)
