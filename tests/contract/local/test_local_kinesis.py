"""The local AWS with its clients: boto3, the AWS CLI, CBOR over HTTP/2; and its Kinesis compared with kinesis-local."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import cbor2
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from consumer.local.process import LocalAWS
from tests.contract import kinesis_behaviours as behaviours
from tests.contract.kinesis_behaviours import BEHAVIOURS, stream
from tests.support.plain_http import HTTP, PLAIN
from tests.support.streams import until

KINESIS_LOCAL = Path(__file__).parents[1] / "kinesis_local" / "node_modules" / "kinesis-local"
HELD_AGAINST_OURS = KINESIS_LOCAL.exists() and shutil.which("node") is not None
SERVERS = ["penstock", "kinesis-local"] if HELD_AGAINST_OURS else ["penstock"]

KNOWN_DIFFERENCES = {
    "shards_share_the_hash_keys_evenly": "its ranges are off by some keys",
    "explicit_hash_keys_choose_the_shard": "so a key beside a bound falls in another shard",
    "a_doubled_stream_lists_parents_at_its_horizon_and_children_at_its_latest": "it lists no parents at the horizon",
    "arguments_out_of_bounds_are_refused": "it takes 501 records a call",
    "a_shard_takes_1000_records_a_second": "it does not throttle writes",
    "a_sequence_number_goes_with_iterators_that_begin_there": "it takes one for any",
    "a_shard_gives_5_reads_a_second": "it does not throttle reads",
}
"""Behaviours of AWS that kinesis-local 0.6.2 does not have. The test fails when it gets one."""

BY_THE_CLOCK = {"a_shard_gives_5_reads_a_second", "a_shard_takes_1000_records_a_second"}
"""Of these differences, those that do not show on a busy machine."""


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def kinesis_local() -> Iterator[Any]:
    port = free_port()
    env = {
        **os.environ,
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(free_port()),
        **{f"{change}_DURATION": "20ms" for change in ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD")},
        **{f"{change}_DURATION": "20ms" for change in ("MERGE_SHARDS", "UPDATE_SHARD_COUNT")},
    }
    process = subprocess.Popen(["node", "main.js"], cwd=KINESIS_LOCAL, env=env, stdout=subprocess.DEVNULL)
    try:
        client = boto3.client(
            "kinesis",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

        def answers() -> bool:
            with contextlib.suppress(BotoCoreError):
                return bool(client.list_streams())
            return False

        until(answers, "kinesis-local answers", 30)
        yield client
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, aws: LocalAWS) -> Iterator[tuple[str, Any]]:
    if request.param == "penstock":
        yield "penstock", aws.client("kinesis")
    else:
        with kinesis_local() as client:
            yield "kinesis-local", client


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_a_kinesis_does_as_aws_does(server: tuple[str, Any], behaviour: Callable[[Any], None]) -> None:
    name, client = server
    if name == "kinesis-local" and behaviour.__name__ in BY_THE_CLOCK:
        pytest.skip("where the machine is slow, so is what does not throttle")
    if name == "kinesis-local" and behaviour.__name__ in KNOWN_DIFFERENCES:
        with pytest.raises((AssertionError, ClientError, KeyError)):
            behaviour(client)
    else:
        behaviour(client)


def test_known_differences_name_behaviours() -> None:
    assert KNOWN_DIFFERENCES.keys() <= {behaviour.__name__ for behaviour in BEHAVIOURS}


# -- the wire


def cbor_call(http: httpx.Client, operation: str, **body: Any) -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/x-amz-cbor-1.1", "x-amz-target": f"Kinesis_20131202.{operation}"}
    answer = http.post("/", headers=headers, content=cbor2.dumps(body))
    assert answer.headers["content-type"] == "application/x-amz-cbor-1.1"
    assert answer.headers["x-amzn-requestid"]
    decoders = {1: lambda value, _: ("time", value)}
    return answer.status_code, cbor2.loads(answer.content, semantic_decoders=decoders) if answer.content else {}


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2 with prior knowledge", "HTTP/1.1"])
def test_cbor_carries_bytes_and_milliseconds(aws: LocalAWS, http2: bool) -> None:
    with (
        stream(aws.client("kinesis")) as name,
        httpx.Client(base_url=aws.endpoint, verify=PLAIN, http1=not http2, http2=http2) as http,
    ):
        big = os.urandom(900_000)
        status, put = cbor_call(http, "PutRecord", StreamName=name, Data=big, PartitionKey="k")
        assert status == 200
        an_hour_ago = cbor2.CBORTag(1, int((time.time() - 3600) * 1000))
        _, answer = cbor_call(
            http,
            "GetShardIterator",
            StreamName=name,
            ShardId=put["ShardId"],
            ShardIteratorType="AT_TIMESTAMP",
            Timestamp=an_hour_ago,
        )
        _, read = cbor_call(http, "GetRecords", ShardIterator=answer["ShardIterator"])
        (record,) = read["Records"]
        assert record["Data"] == big
        tag, arrival_ms = record["ApproximateArrivalTimestamp"]
        assert tag == "time"
        assert isinstance(arrival_ms, int)
        assert abs(arrival_ms / 1000 - time.time()) < 30


def test_cbor_carries_errors(aws: LocalAWS) -> None:
    with httpx.Client(base_url=aws.endpoint, verify=PLAIN, http1=False, http2=True) as http:
        status, error = cbor_call(http, "DescribeStream", StreamName="nowhere")
    assert status == 400
    assert error["__type"] == "ResourceNotFoundException"
    assert "nowhere" in error["message"]


def test_a_body_that_is_none_is_a_serialization_error(aws: LocalAWS) -> None:
    for content_type in ("application/x-amz-json-1.1", "application/x-amz-cbor-1.1"):
        for body in (b"\xff\x00{", b"[1]", b"1"):
            headers = {"content-type": content_type, "x-amz-target": "Kinesis_20131202.ListStreams"}
            answer = HTTP.post(aws.endpoint, headers=headers, content=body)
            assert answer.status_code == 400
            assert b"SerializationException" in answer.content


def test_the_aws_cli_works(aws: LocalAWS) -> None:
    with stream(aws.client("kinesis")) as name:
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "kinesis", "describe-stream", "--stream-name", name, "--output", "json"],
            env={**os.environ, **aws.env},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["StreamDescription"]["StreamStatus"] == "ACTIVE"


# -- the rest of AWS


def test_one_of_many_conditional_writes_wins(aws: LocalAWS) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="conditional")
    won: list[int] = []

    def write(at: int) -> None:
        with contextlib.suppress(ClientError):
            s3.put_object(Bucket="conditional", Key="k", Body=str(at).encode(), IfNoneMatch="*")
            won.append(at)

    threads = [threading.Thread(target=write, args=(at,)) for at in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert s3.get_object(Bucket="conditional", Key="k")["Body"].read() == str(won[0]).encode()


def test_s3_keeps_a_large_object_with_an_odd_name(aws: LocalAWS) -> None:
    s3, key, body = aws.client("s3"), "a=1/b c+d%/ü~.parquet", os.urandom(20 << 20)
    s3.create_bucket(Bucket="odd-names")
    s3.put_object(Bucket="odd-names", Key=key, Body=body)
    assert s3.get_object(Bucket="odd-names", Key=key)["Body"].read() == body
    assert [found["Key"] for found in s3.list_objects_v2(Bucket="odd-names", Prefix="a=1/")["Contents"]] == [key]


def test_dynamodb_counts_right_under_many_writers(aws: LocalAWS) -> None:
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName="counts",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def add() -> None:
        for _ in range(20):
            dynamodb.update_item(
                TableName="counts",
                Key={"k": {"S": "a"}},
                UpdateExpression="ADD n :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dynamodb.get_item(TableName="counts", Key={"k": {"S": "a"}})["Item"]["n"] == {"N": "100"}


# -- faults


def impatient(aws: LocalAWS, service: str) -> Any:
    """A client that does not retry."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=5)
    return aws.client(service, config=config)


def test_a_fault_affects_only_its_operation_and_only_within_its_block(aws: LocalAWS) -> None:
    s3 = impatient(aws, "s3")
    s3.create_bucket(Bucket="faults")
    with aws.faults(service="s3", operation="PutObject", kind="error", status=503, code="Broken"):
        assert behaviours.refusal(s3.put_object, Bucket="faults", Key="k", Body=b"") == "Broken"
        assert s3.list_objects_v2(Bucket="faults")["KeyCount"] == 0
    s3.put_object(Bucket="faults", Key="k", Body=b"")
    with aws.faults(service="s3", operation="PutObject", kind="error", performed=True):
        assert behaviours.refusal(s3.put_object, Bucket="faults", Key="lost", Body=b"") == "InternalError"
    assert s3.list_objects_v2(Bucket="faults")["KeyCount"] == 2


def test_kinesis_faults_come_in_all_kinds(aws: LocalAWS) -> None:
    kinesis = impatient(aws, "kinesis")
    with aws.faults(service="kinesis", operation="ListStreams", kind="throttle", count=1):
        assert behaviours.refusal(kinesis.list_streams) == "ProvisionedThroughputExceededException"
        assert kinesis.list_streams()
    with aws.faults(service="kinesis", operation="GetRecords", kind="expired_iterator"):
        assert behaviours.refusal(kinesis.get_records, ShardIterator="x") == "ExpiredIteratorException"
    with aws.faults(service="kinesis", operation="ListStreams", kind="delay", delay_s=0.3):
        began = time.monotonic()
        kinesis.list_streams()
        assert time.monotonic() - began >= 0.3
    with aws.faults(service="kinesis", kind="reset"), pytest.raises(BotoCoreError):
        kinesis.list_streams()
    assert "ListTables" not in str(kinesis.list_streams())


def test_dynamodb_faults_are_distinguished_from_kinesis_faults(aws: LocalAWS) -> None:
    dynamodb = impatient(aws, "dynamodb")
    with aws.faults(service="dynamodb", operation="ListTables", kind="throttle"):
        assert behaviours.refusal(dynamodb.list_tables) == "ProvisionedThroughputExceededException"
        assert aws.client("kinesis").list_streams()


def test_a_fault_by_chance_is_the_same_for_the_same_seed(aws: LocalAWS) -> None:
    kinesis = impatient(aws, "kinesis")

    def met() -> list[bool]:
        found = []
        with aws.faults(service="kinesis", operation="ListStreams", kind="error", probability=0.5, seed=7):
            for _ in range(20):
                try:
                    found.append(not kinesis.list_streams())
                except ClientError:
                    found.append(True)
        return found

    first = met()
    assert first == met()
    assert 0 < sum(first) < 20


def test_a_put_may_be_refused_in_part(aws: LocalAWS) -> None:
    kinesis = aws.client("kinesis")
    entries = [{"Data": b"", "PartitionKey": str(at)} for at in range(20)]
    with stream(kinesis) as name, aws.faults(operation="PutRecords", kind="partial", share=0.5, count=1) as fault:
        answer = kinesis.put_records(StreamName=name, Records=entries)
        assert 0 < answer["FailedRecordCount"] < 20
        kept = [at for at, record in enumerate(answer["Records"]) if "SequenceNumber" in record]
        keys = [record["PartitionKey"] for record in behaviours.read(kinesis, name, "shardId-000000000000")["Records"]]
        assert keys == [str(at) for at in kept]
    assert fault["hits"] == 1


def test_a_stall_ends_with_its_rule(aws: LocalAWS) -> None:
    kinesis, answered = impatient(aws, "kinesis"), threading.Event()

    def call() -> None:
        kinesis.list_streams()
        answered.set()

    thread = threading.Thread(target=call)
    with aws.faults(service="kinesis", operation="ListStreams", kind="stall"):
        thread.start()
        until(lambda: aws.list_faults()[0]["hits"], "the call is stalled")
        assert not answered.is_set()
    assert answered.wait(5)
    thread.join()


def test_cloudwatch_hears_of_records_and_of_throttling(aws: LocalAWS) -> None:
    kinesis, cloudwatch = aws.client("kinesis"), aws.client("cloudwatch")
    began = time.time()
    with stream(kinesis) as name:
        entries = [{"Data": b"x" * 99, "PartitionKey": "k"}] * 500
        answers = [kinesis.put_records(StreamName=name, Records=entries) for _ in range(4)]
        refused = sum(answer["FailedRecordCount"] for answer in answers)
        behaviours.read(kinesis, name, "shardId-000000000000")

    def total(metric: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/Kinesis",
            MetricName=metric,
            Dimensions=[{"Name": "StreamName", "Value": name}],
            StartTime=began - 120,
            EndTime=time.time() + 120,
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    assert total("IncomingRecords") == 2000 - refused
    assert total("IncomingBytes") == 100 * (2000 - refused)
    assert refused > 0
    assert total("WriteProvisionedThroughputExceeded") == refused
    names = {found["MetricName"] for found in cloudwatch.list_metrics(Namespace="AWS/Kinesis")["Metrics"]}
    assert "GetRecords.IteratorAgeMilliseconds" in names


def test_a_rule_with_a_mistake_is_refused(aws: LocalAWS) -> None:
    wrong: tuple[Any, ...] = ({"kind": "gremlin"}, {"servise": "s3"}, {"count": "many"}, [])
    for rule in wrong:
        assert HTTP.post(f"{aws.endpoint}/_penstock/faults", json=rule).status_code == 400
    assert HTTP.get(f"{aws.endpoint}/_penstock/faults").json() == []


# -- its life


def up(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "consumer.cli", "local", "up", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_up_says_in_one_line_when_it_is_ready_and_stops_at_once() -> None:
    began = time.monotonic()
    process = up()
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert time.monotonic() - began < 10
    assert said["pid"] == process.pid
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", said["endpoint"])
    with httpx.Client(base_url=said["endpoint"], verify=PLAIN) as held:  # a connection that stays open
        held.get("/_penstock/faults")
        began = time.monotonic()
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 8  # the held connection would keep it for 10 s
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_in_use_is_one_line(aws: LocalAWS) -> None:
    port = aws.endpoint.rpartition(":")[2]
    process = up("--port", port)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert port in err
    assert len(err.splitlines()) == 1


def test_a_host_that_others_can_reach_must_be_permitted() -> None:
    process = up("--host", "0.0.0.0")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "--allow-remote" in err


def test_it_dies_with_the_process_that_started_it() -> None:
    script = (
        "from consumer.local.process import LocalAWS; a = LocalAWS().__enter__(); print(a.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    until(gone, "the local AWS is gone")
