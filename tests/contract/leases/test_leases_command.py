"""``penstock leases reset``, on moto."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from consumer.admin import reset_leases
from consumer.cli import main
from consumer.leases.binding import bind, find
from consumer.leases.seed import seed
from tests.contract.leases.test_lease_binding import MADE_S, NOW
from tests.support.kcl_tables import APP, SHARDS, STREAM, owners

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

CONFIG = f"""
[stream]
name = "{STREAM}"
application = "{APP}"
[model]
factory = "a:B"
version = "1"
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
[kcl]
failover_ms = 1000
"""


@pytest.fixture
def bound(tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch) -> DynamoDBClient:
    """An application whose stream has been made anew."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(reset_leases, "MARGIN_S", -1.0)
    bind(tables, kinesis, APP, STREAM, MADE_S, "TRIM_HORIZON", NOW)
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    return tables


def reset(folder: Path, *options: str) -> Result:
    path = folder / "penstock.toml"
    path.write_text(CONFIG)
    return CliRunner().invoke(main, ["leases", "reset", "--config", str(path), *options])


def test_the_plan_is_printed_and_nothing_is_changed(bound: DynamoDBClient, tmp_path: Path) -> None:
    result = reset(tmp_path)
    assert result.exit_code == 0, result.output
    assert all(shard in result.stdout for shard in SHARDS)
    assert f'stream "{STREAM}", made 2026-11-18' in result.stdout
    assert result.stdout.endswith("nothing changed; run again with --execute to delete the leases\n")
    assert list(owners(bound)) == SHARDS and find(bound, APP) is not None


def test_with_execute_the_leases_are_gone(bound: DynamoDBClient, tmp_path: Path) -> None:
    result = reset(tmp_path, "--execute")
    assert result.exit_code == 0 and result.stdout.endswith("done\n"), result.output
    assert owners(bound) == {} and find(bound, APP) is None
    again = reset(tmp_path, "--execute", "--json")
    assert (again.exit_code, json.loads(again.stdout)["leases"]) == (0, [])


def test_as_json_the_plan_is_one_object(bound: DynamoDBClient, tmp_path: Path) -> None:
    said = json.loads(reset(tmp_path, "--json").stdout)
    assert [lease["shard_id"] for lease in said["leases"]] == SHARDS
    assert said["executed"] is False and said["start"] == "TRIM_HORIZON"


def test_a_stream_that_is_not_there_is_told(bound: DynamoDBClient, kinesis: KinesisClient, tmp_path: Path) -> None:
    kinesis.delete_stream(StreamName=STREAM)
    result = reset(tmp_path, "--execute")
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    assert result.exit_code == 2 and "there is no such stream" in result.stderr
    assert list(owners(bound)) == SHARDS
