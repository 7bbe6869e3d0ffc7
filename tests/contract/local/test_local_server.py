"""The server of the local AWS: fast answers, real resets, a clean end, and one line on standard output."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cbor2
import httpx
import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, HTTPClientError

from consumer.local.process import LocalAWS
from consumer.local.server import up
from pipeline.errors import UserError
from tests.support.plain_http import HTTP, PLAIN
from tests.support.streams import until

ROOT = Path(__file__).parents[3]
NO_RETRIES = Config(retries={"total_max_attempts": 1})


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


@pytest.mark.parametrize("http2", [False, True])
def test_a_reset_ends_the_connection_without_an_answer(aws: LocalAWS, http2: bool) -> None:
    headers = {"x-amz-target": "Kinesis_20131202.ListStreams", "content-type": "application/x-amz-json-1.1"}
    with (
        httpx.Client(verify=PLAIN, http1=not http2, http2=http2) as client,
        aws.faults(service="kinesis", operation="ListStreams", kind="reset", count=1) as fault,
    ):
        with pytest.raises(httpx.TransportError):
            client.post(aws.endpoint, headers=headers, content=b"{}")
        assert client.post(aws.endpoint, headers=headers, content=b"{}").status_code == 200
    assert fault["hits"] == 1


@pytest.mark.parametrize("http2", [False, True])
def test_large_requests_and_answers_arrive_whole(aws: LocalAWS, http2: bool) -> None:
    """Of more than the buffers of a connection hold; several answers at once."""
    s3, bucket, body = aws.client("s3"), f"large-over-{2 if http2 else 1}", random.Random(7).randbytes(3_000_000)
    s3.create_bucket(Bucket=bucket)
    put, get = (
        s3.generate_presigned_url(what, {"Bucket": bucket, "Key": "k"}) for what in ("put_object", "get_object")
    )

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=30, verify=PLAIN) as client:
            await client.put(put, content=body)
            return await asyncio.gather(*(client.get(get) for _ in range(4)))

    answers = asyncio.run(ask())
    assert [answer.content == body for answer in answers] == 4 * [True]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}


def test_a_lost_answer_leaves_its_object_behind(aws: LocalAWS) -> None:
    s3 = aws.client("s3", config=NO_RETRIES)
    s3.create_bucket(Bucket="lost-answers")
    with (
        aws.faults(service="s3", operation="PutObject", kind="reset", performed=True),
        pytest.raises(HTTPClientError),
    ):
        s3.put_object(Bucket="lost-answers", Key="kept", Body=b"whole")
    assert s3.get_object(Bucket="lost-answers", Key="kept")["Body"].read() == b"whole"


def test_requests_that_clients_gave_up_during_a_stall_are_not_performed(aws: LocalAWS) -> None:
    s3 = aws.client("s3")
    hasty = aws.client("s3", config=Config(retries={"total_max_attempts": 1}, read_timeout=0.2))
    s3.create_bucket(Bucket="given-up")
    with aws.faults(service="s3", operation="PutObject", kind="stall") as fault:
        with pytest.raises(HTTPClientError):
            hasty.put_object(Bucket="given-up", Key="never", Body=b"late")
        hasty.close()
        until(lambda: aws.list_faults()[0]["hits"] == 1, "the request was stalled")
    assert fault["hits"] == 1
    assert s3.list_objects_v2(Bucket="given-up")["KeyCount"] == 0


def test_it_stops_at_once_and_quietly_while_a_request_is_stalled() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer.local"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        HTTP.post(f"{endpoint}/_penstock/faults", json={"kind": "stall"})
        held = threading.Thread(target=_ask, args=(endpoint,))
        held.start()
        until(lambda: HTTP.get(f"{endpoint}/_penstock/faults").json()[0]["hits"] == 1, "a request is stalled")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=5)
        held.join(5)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, *said) == (0, b"", b"")
    assert not held.is_alive()


def _ask(endpoint: str) -> None:
    try:
        HTTP.get(endpoint, timeout=10)
    except httpx.TransportError:
        return


def test_calls_that_moto_does_not_support_are_errors_and_the_server_lives_on(aws: LocalAWS) -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.NoSuchThing", "content-type": "application/x-amz-json-1.0"}
    scope = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=, Signature=0"
    answer = HTTP.post(aws.endpoint, headers={**headers, "authorization": scope}, content=b"{}")
    assert answer.status_code >= 400
    assert "__type" in answer.json()
    assert aws.client("dynamodb").list_tables()["TableNames"] == []


def test_requests_are_counted_by_service_and_operation(aws: LocalAWS) -> None:
    aws.calls(forget=True)
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="counted")
    for number in range(3):
        s3.put_object(Bucket="counted", Key=f"a/{number}", Body=b"x")
    s3.list_objects_v2(Bucket="counted", Prefix="a/")
    s3.head_object(Bucket="counted", Key="a/0")
    with aws.faults(service="kinesis", kind="throttle", count=1):
        aws.client("kinesis").list_streams()
    aws.client("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}])
    counted = {
        "s3": {"CreateBucket": 1, "PutObject": 3, "ListObjectsV2": 1, "HeadObject": 1},
        "kinesis": {"ListStreams": 2},
        "monitoring": {"PutMetricData": 1},
    }
    assert aws.calls() == counted
    assert aws.calls(forget=True) == counted
    assert aws.calls() == {}


def test_requests_are_known_by_access_key(aws: LocalAWS) -> None:
    def someone(service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]  # any service
            endpoint_url=aws.endpoint,
            region_name="us-east-1",
            aws_access_key_id="someone",
            aws_secret_access_key="secret",
            config=Config(proxies={}),
        )

    aws.calls(forget=True)
    someone("s3").create_bucket(Bucket="whose")
    for _ in range(2):
        someone("s3").put_object(Bucket="whose", Key="a/b/c", Body=b"x")
    someone("kinesis").create_stream(StreamName="whose", ShardCount=1)
    with pytest.raises(ClientError):
        someone("dynamodb").query(
            TableName="none",
            IndexName="index",
            KeyConditionExpression="a = :a",
            ExpressionAttributeValues={":a": {"S": "1"}},
        )
    with pytest.raises(ClientError):
        someone("kinesis").list_shards(StreamName="none")
    assert aws.client("s3").list_objects_v2(Bucket="whose")["KeyCount"] == 1
    found = [(each["service"], each["operation"], each["resource"], each["count"]) for each in aws.asked("someone")]
    assert found == [
        ("s3", "CreateBucket", "whose", 1),
        ("s3", "PutObject", "whose/a/b/", 2),
        ("kinesis", "CreateStream", "whose", 1),
        ("dynamodb", "Query", "none/index/index", 1),
        ("kinesis", "ListShards", "none", 1),
    ]
    assert [each["operation"] for each in aws.asked("local")] == ["ListObjectsV2"]
    aws.calls(forget=True)
    assert aws.asked("someone") == []


def test_unsupported_services_are_reported(aws: LocalAWS) -> None:
    answer = HTTP.get(f"{aws.endpoint}/_penstock/nothing")
    assert (answer.status_code, "/_penstock/calls" in answer.text) == (400, True)


@pytest.mark.parametrize("http2", [False, True])
def test_no_page_of_another_site_sets_faults_or_empties_streams(aws: LocalAWS, http2: bool) -> None:
    aws.client("kinesis").create_stream(StreamName=f"kept-{http2}", ShardCount=1)
    with httpx.Client(base_url=aws.endpoint, verify=PLAIN, http1=not http2, http2=http2) as client:
        for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            for method, path in (
                ("POST", "/_penstock/faults"),
                ("DELETE", "/_penstock/faults"),
                ("GET", "/_penstock/calls"),
            ):
                refused = client.request(method, path, headers=headers, json={"kind": "error"})
                assert (refused.status_code, "local AWS" in refused.text) == (403, True)
            assert client.post("/moto-api/reset", headers=headers).status_code == 403
        evil = {"origin": "http://evil.example"}
        assert client.options("/", headers=evil).status_code == 403
        asked = {"x-amz-target": "Kinesis_20131202.DeleteStream", "content-type": "application/x-amz-json-1.1"}
        deleted = client.post("/", headers=evil | asked, json={"StreamName": f"kept-{http2}"})
        assert (deleted.status_code, "evil.example" in deleted.text) == (403, True)
    assert aws.list_faults() == []
    assert f"kept-{http2}" in aws.client("kinesis").list_streams()["StreamNames"]


def test_what_no_client_of_aws_sends_is_refused_with_a_sentence(aws: LocalAWS) -> None:
    for target in ("Kinesis_20131202", "Foo", "Foo.Bar"):
        answer = HTTP.post(f"{aws.endpoint}/bucket/key", headers={"x-amz-target": target})
        assert answer.status_code == 400 and "moto" not in answer.text
    answer = HTTP.delete(f"{aws.endpoint}/_penstock/faults/x")
    assert answer.status_code == 400 and "is not the id of a fault" in answer.text
    answer = HTTP.post(f"{aws.endpoint}/_penstock/faults", json={"kind": "error", "status": 99999})
    assert answer.status_code == 400 and "between 200 and 599" in answer.text
    with aws.faults(service="s3", kind="error", code="<&>", count=1):
        assert "<Code>&lt;&amp;&gt;</Code>" in HTTP.get(aws.endpoint).text


def consumer_of(kinesis: Any, name: str) -> str:
    """A stream of one shard, and the ARN of a consumer that may subscribe."""
    kinesis.create_stream(StreamName=name, ShardCount=1)
    describe = kinesis.describe_stream_summary
    until(lambda: describe(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE", "it is active")
    arn = describe(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    made = str(kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"])
    ready = kinesis.describe_stream_consumer
    until(lambda: ready(ConsumerARN=made)["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE", "it may subscribe")
    return made


SHARD = "shardId-000000000000"
FROM_THE_START = {"Type": "TRIM_HORIZON"}


def test_boto3_is_pushed_records_until_the_shard_ends(aws: LocalAWS) -> None:
    kinesis = aws.client("kinesis")
    asked = {"ConsumerARN": consumer_of(kinesis, "pushed"), "ShardId": SHARD, "StartingPosition": FROM_THE_START}
    events = (event["SubscribeToShardEvent"] for event in kinesis.subscribe_to_shard(**asked)["EventStream"])
    assert next(events)["Records"] == []
    with pytest.raises(ClientError, match="Another active subscription"):
        kinesis.subscribe_to_shard(**asked)
    began = time.monotonic()
    kinesis.put_record(StreamName="pushed", Data=b"\x00\xff", PartitionKey="k")
    (record,) = next(event for event in events if event["Records"])["Records"]
    assert (record["Data"], record["PartitionKey"]) == (b"\x00\xff", "k")
    assert time.monotonic() - began < 0.9  # it does not wait for the next heartbeat
    kinesis.split_shard(StreamName="pushed", ShardToSplit=SHARD, NewStartingHashKey=str(2**127))
    *_, last = events
    assert len(last["ChildShards"]) == 2


def test_a_subscription_in_cbor_over_http2_ends_with_a_reset(aws: LocalAWS) -> None:
    content = {
        "ConsumerARN": consumer_of(aws.client("kinesis"), "framed"),
        "ShardId": SHARD,
        "StartingPosition": FROM_THE_START,
    }
    headers = {"content-type": "application/x-amz-cbor-1.1", "x-amz-target": "Kinesis_20131202.SubscribeToShard"}
    aws.client("kinesis").put_record(StreamName="framed", Data=b"\x00\xff", PartitionKey="k")
    buffer = EventStreamBuffer()
    with (
        httpx.Client(verify=PLAIN, http1=False, http2=True) as client,
        client.stream("POST", aws.endpoint, headers=headers, content=cbor2.dumps(content)) as answer,
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.amazon.eventstream")
        parts = answer.iter_raw()
        messages: list[Any] = []
        while len(messages) < 2:
            buffer.add_data(next(parts))
            messages += buffer
        HTTP.post(f"{aws.endpoint}/moto-api/reset")
        end = time.monotonic() + 10
        for part in parts:
            assert time.monotonic() < end, "the subscription goes on"
            buffer.add_data(part)
        messages += buffer
    kinds = [told.headers.get(":event-type") or told.headers[":exception-type"] for told in messages]
    assert (kinds[:2], kinds[-1]) == (
        ["initial-response", "SubscribeToShardEvent"],
        "ResourceNotFoundException",
    )
    told_first = cbor2.loads(messages[1].payload, semantic_decoders={1: lambda value, _: value})
    assert told_first["Records"][0]["Data"] == b"\x00\xff"


@pytest.mark.parametrize(
    ("host", "fix"),
    [
        ("0.0.0.0", "--allow-remote"),
        ("::", "--allow-remote"),
        ("192.0.2.1", "--allow-remote"),
        ("penstock.example", "Use an address of this machine"),
        ("", "Use an address of this machine"),
    ],
)
def test_the_server_refuses_remote_addresses_unless_allowed(host: str, fix: str) -> None:
    with pytest.raises(UserError, match=fix):
        up(host, 0, limits=True)
