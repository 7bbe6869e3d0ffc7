"""``penstock status`` on moto: both layouts of KCL's tables, a worker's page, its note, and the stream itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner, Result

from consumer.admin.status import pages
from consumer.cli import main
from consumer.leases import worker_notes
from consumer.leases.seed import seed
from consumer.leases.worker_notes import WorkerNote
from tests.support import kcl_layouts
from tests.support.kcl_tables import APP, SHARDS, STREAM, lead, put, seen_alive
from tests.support.status_looks import says

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def status(*options: str) -> Result:
    return CliRunner().invoke(main, ["status", "--application", APP, "--stream", STREAM, *options])


def read(*options: str) -> dict[str, Any]:
    result = status("--json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def running(tables: DynamoDBClient, kinesis: KinesisClient) -> DynamoDBClient:
    """Two workers: one has two shards, the other one."""
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    for worker in ("a", "b"):
        seen_alive(tables, worker)
    lead(tables, "a")
    for shard, owner in zip(SHARDS, ("a", "b", "a"), strict=True):
        put(tables, shard, leaseOwner=owner, checkpoint="TRIM_HORIZON")
    return tables


@pytest.fixture
def page() -> Iterator[tuple[str, dict[str, Any]]]:
    """A worker's page, and its answer."""
    stats: dict[str, Any] = {}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(stats).encode()
            self.send_response(200 if self.path == "/stats" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", stats
        server.shutdown()
        thread.join()


def note(dynamodb: DynamoDBClient, url: str, stats: dict[str, Any], host: str = "") -> None:
    found = WorkerNote("a", url, host or socket.gethostname(), time.time(), stats)
    worker_notes.write(dynamodb, APP, found)


def test_no_such_application(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    result = status()
    assert result.exit_code == 2
    assert f'there is no lease table "{APP}"' in result.stderr


def test_an_application_of_another_stream(running: DynamoDBClient, kinesis: KinesisClient) -> None:
    running.put_item(TableName=f"{APP}-CoordinatorState", Item={**kcl_layouts.BINDING, "streamName": {"S": "another"}})
    result = status()
    assert result.exit_code == 2
    assert 'reads stream "another"' in result.stderr


def test_no_such_stream_is_not_said_of_the_application(running: DynamoDBClient, kinesis: KinesisClient) -> None:
    result = CliRunner().invoke(main, ["status", "--application", APP, "--stream", "nope"])
    assert result.exit_code == 2
    assert result.stderr.startswith("penstock: stream nope does not exist in this account and region. Check "), result


def test_the_time_between_two_reads_needs_watch(running: DynamoDBClient) -> None:
    result = CliRunner().invoke(main, ["status", "--application", APP, "--stream", STREAM, "--every", "5s"])
    assert result.exit_code == 2
    assert "--every has an effect only with --watch" in result.stderr


def test_the_lag_of_other_kcl_workers_is_read_from_the_stream(running: DynamoDBClient) -> None:
    found = read()
    assert found["schema"] == "penstock.status/1"
    assert (found["leader"], found["layout"], found["totals"]["workers_alive"]) == ("a", "three tables", 2)
    assert {shard["owner"] for shard in found["shards"]} == {"a", "b"}
    assert [shard["behind_s"] for shard in found["shards"]] == [0, 0, 0]
    assert [shard["records_behind"] for shard in found["shards"]] == [None] * 3


def test_without_worker_reports_cloudwatch_gives_the_arrival_rate(
    running: DynamoDBClient, kinesis: KinesisClient
) -> None:
    cloudwatch = boto3.client("cloudwatch", region_name="us-east-1")
    minute_s = time.time() // 60 * 60
    for minutes_ago in (2, 3, 4, 5, 6):
        cloudwatch.put_metric_data(
            Namespace="AWS/Kinesis",
            MetricData=[
                {
                    "MetricName": "IncomingRecords",
                    "Dimensions": [{"Name": "StreamName", "Value": STREAM}],
                    "Timestamp": datetime.fromtimestamp(minute_s - 60 * minutes_ago, UTC),
                    "Value": 120.0,
                }
            ],
        )
    assert read()["totals"]["arrival_rate"] == pytest.approx(2, abs=0.5)


def test_a_worker_is_asked_for_its_page(running: DynamoDBClient, page: tuple[str, dict[str, Any]]) -> None:
    url, stats = page
    stats |= {**says({SHARDS[0]: {"behind_s": 7.0}}).stats, "worker": "a", "at": time.time()}
    note(running, url, {})
    shard = read()["shards"][0]
    assert (shard["behind_s"], shard["records_behind"], shard["trend"]) == (7, 3, "steady")


def test_a_page_of_another_worker_is_not_believed(running: DynamoDBClient, page: tuple[str, dict[str, Any]]) -> None:
    url, stats = page
    stats |= {**says({SHARDS[0]: {"behind_s": 7.0}}).stats, "worker": "somebody else"}
    note(running, url, dict(says({SHARDS[0]: {"behind_s": 9.0}}).stats))
    assert read()["shards"][0]["behind_s"] == 9


def test_a_page_out_of_reach_is_replaced_by_the_note(running: DynamoDBClient) -> None:
    note(running, "http://127.0.0.1:1", dict(says({SHARDS[0]: {"behind_s": 9.0}}).stats), host="elsewhere")
    found = read()
    assert found["shards"][0]["behind_s"] == 9
    assert found["workers"][0]["source"] == "note"
    assert found["workers"][0]["alive"] is True


def test_a_refused_connection_means_that_the_worker_has_ended(running: DynamoDBClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    note(running, f"http://127.0.0.1:{port}", {})
    found = read()
    assert found["shards"][0]["why"]["kind"] == "no_owner_leader_dead"
    assert found["workers"][0]["alive"] is False


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "https://127.0.0.1", "http://", "http://127.0.0.1:0"])
def test_a_note_with_a_strange_address_is_passed_over(url: str) -> None:
    found = WorkerNote("a", url, socket.gethostname(), 0.0, {})
    assert pages.WorkerPages(pages.ask).ask_all({"a": found})["a"].stats is None


def test_one_table(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    dynamodb.create_table(
        TableName=APP,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for item in kcl_layouts.one_table():
        dynamodb.put_item(TableName=APP, Item=item)
    found = read()
    assert (found["layout"], found["migration"], found["leader"]) == ("one table", "COMPLETE", "a")
    assert [worker["worker"] for worker in found["workers"]] == ["a", "b"]
    assert "one table, migration COMPLETE" in status().stdout


def test_piped_it_is_text(running: DynamoDBClient) -> None:
    lines = status().stdout.splitlines()
    assert lines[0].startswith(f"{APP} on stream {STREAM}, ")
    assert lines[1] == "workers: 2 of 2 alive, a leads; KCL's items: three tables"
