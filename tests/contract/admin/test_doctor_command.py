"""``penstock doctor`` on the local AWS: every request is answered, and nothing is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.leases.tables import make_tables
from consumer.local.process import LocalAWS

CONFIG = """
[stream]
name = "events"
application = "app"
[model]
factory = "examples.hello:Sentiment"
version = "1"
[[sink]]
type = "parquet"
url = "s3://bucket/table"
[[sink]]
type = "kinesis"
stream = "enriched"
[dead_letter]
url = "s3://bucket/dead"
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(limits=False) as local:
        for name in ("events", "enriched"):
            local.client("kinesis").create_stream(StreamName=name, ShardCount=2)
        local.client("s3").create_bucket(Bucket="bucket")
        yield local


@pytest.fixture
def config(tmp_path: Path, aws: LocalAWS, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG)
    return path


def doctor(config: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--config", str(config), *words])


def levels(result: Result) -> dict[str, str]:
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == "penstock.doctor/1"
    return {each["check"]: each["level"] for each in found["findings"]}


def test_an_application_that_is_well(config: Path, aws: LocalAWS) -> None:
    make_tables(aws.client("dynamodb"), "app")

    result = doctor(config, "--json", "--tasks", "2")

    found = levels(result)
    assert "red" not in found.values(), result.stdout
    assert result.exit_code == 0
    assert found["columns"] == found["model"] == found["stores"] == found["tables"] == "green"
    assert not aws.client("s3").list_objects_v2(Bucket="bucket").get("Contents")


def test_red_findings_say_the_fix_and_exit_with_1(config: Path) -> None:
    config.write_text(CONFIG.replace("events", "missing").replace("bucket/table", "nowhere/table"))

    result = doctor(config, "--no-load")

    assert result.exit_code == 1
    assert re.search(r"(?m)^red +stream +DescribeStreamSummary: ResourceNotFound.* -> ", result.stdout), result.stdout
    assert re.search(r"(?m)^red +stores +s3://nowhere/table/: NoSuchBucket.* -> Create the bucket", result.stdout)
    assert re.fullmatch(r"\d+ green, \d+ yellow, \d+ red", result.stdout.splitlines()[-1])


def test_a_configuration_with_mistakes_is_red(config: Path) -> None:
    config.write_text(CONFIG + "[batch]\nmax_recrods = 1\n")

    result = doctor(config)

    assert result.exit_code == 1
    assert result.stdout.startswith("red     configuration  ")
    assert "max_recrods" in result.stdout


def test_unsupported_calls_are_errors_in_the_format_of_each_protocol(aws: LocalAWS) -> None:
    iam = aws.client("iam")
    with pytest.raises(iam.exceptions.ClientError) as refused:
        iam.simulate_principal_policy(PolicySourceArn="arn:aws:iam::123456789012:role/r", ActionNames=["s3:GetObject"])
    assert refused.value.response["Error"]["Code"] == "NotImplemented"
