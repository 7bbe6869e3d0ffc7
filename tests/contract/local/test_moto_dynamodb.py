"""DynamoDB's short way into moto answers as moto's own web server does."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from consumer.local import moto_dynamodb
from consumer.local.moto_services import Moto
from consumer.local.request import Request, Response

KEY = {"k": {"S": "a"}}
MADE = {
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
    "AttributeDefinitions": [
        {"AttributeName": "k", "AttributeType": "S"},
        {"AttributeName": "o", "AttributeType": "S"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "by-o",
            "KeySchema": [{"AttributeName": "o", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
}
ITEM = {**KEY, "o": {"S": "é\u2028"}, "n": {"N": "1.50"}, "b": {"B": "AP8="}, "l": {"L": [{"NULL": True}]}}
CONDITION = {"ConditionExpression": "attribute_not_exists(k)"}
VALUES = {":o": {"S": "é\u2028"}}
STORY: list[tuple[str, Any]] = [
    ("CreateTable", MADE),
    ("CreateTable", MADE),
    ("DescribeTable", {}),
    ("PutItem", {"Item": ITEM, **CONDITION}),
    ("PutItem", {"Item": ITEM, **CONDITION, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
    ("PutItem", {"Item": {"k": {"N": "1"}}}),
    ("GetItem", {"Key": KEY, "ConsistentRead": True}),
    ("GetItem", {"Key": {"k": {"S": "none"}}}),
    ("GetItem", {"Key": KEY, "ReturnConsumedCapacity": "wrong"}),
    ("Scan", {"TotalSegments": 1, "Segment": 0}),
    ("Query", {"IndexName": "by-o", "KeyConditionExpression": "o = :o", "ExpressionAttributeValues": VALUES}),
    ("Query", {"KeyConditionExpression": "z = :o", "ExpressionAttributeValues": VALUES}),
    (
        "UpdateItem",
        {"Key": KEY, "AttributeUpdates": {"n": {"Value": {"N": "2"}}}, "Expected": {"z": {"Exists": False}}},
    ),
    (
        "UpdateItem",
        {"Key": KEY, "AttributeUpdates": {"n": {"Value": {"N": "2"}}}, "Expected": {"n": {"Exists": False}}},
    ),
    ("UpdateItem", {"Key": KEY, "UpdateExpression": "SET n = n + :o", "ExpressionAttributeValues": {":o": {"N": "1"}}}),
    ("UpdateItem", {"Key": KEY, "UpdateExpression": "SET"}),
    ("DeleteItem", {"Key": KEY, "ReturnValues": "ALL_OLD"}),
    ("TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "none", "Item": ITEM}}]}),
    ("TagResource", {"ResourceArn": "arn:none", "Tags": []}),
    ("NoSuchThing", {}),
    ("ListTables", {}),
    ("ListStreams", {}),
    ("DescribeTable", {"TableName": "none"}),
    ("GetItem", []),
    ("GetItem", None),
    ("DeleteTable", {}),
]


def asked(operation: str, content: Any, region: str, **more: str) -> Request:
    body = b"{" if content is None else json.dumps(content).encode()
    if isinstance(content, dict):
        body = json.dumps({"TableName": "t", **content}).encode()
    headers = {
        "host": "127.0.0.1:1",
        "x-amz-target": f"DynamoDB_20120810.{operation}",
        "content-type": "application/x-amz-json-1.0",
        "user-agent": "aws-sdk",
        "authorization": f"AWS4-HMAC-SHA256 Credential=a/20260101/{region}/dynamodb/aws4_request, Signature=b",
        "content-length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return Request("POST", "/", b"/", b"", headers, list(headers.items()), body, "1.1", None)


def seen(answer: Response) -> tuple[Any, ...]:
    """An answer, without what differs with each: times and identifiers."""
    body = re.sub(rb'("CreationDateTime": )[\d.]+|("TableId": )"[^"]*"', rb"\1\2", answer.body)
    names = {name for name, _ in answer.headers} - {b"content-length", b"access-control-allow-origin"}
    return answer.status, names, dict(answer.headers)[b"content-type"].partition(b";")[0], body


@pytest.fixture
def moto() -> Any:
    made = Moto(lambda *asked: {})
    yield made
    made.close()


def test_the_short_way_answers_as_the_long_way_does(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = {region: [asked(*each, region) for each in STORY] for region in ("eu-west-1", "eu-west-2")}
    assert all(moto_dynamodb.takes(request) for request in requests["eu-west-1"])
    short = [seen(moto._perform(request)) for request in requests["eu-west-1"]]
    monkeypatch.setattr(moto_dynamodb, "takes", lambda request: False)
    long = [seen(moto._perform(request)) for request in requests["eu-west-2"]]
    for (operation, content), one, other in zip(STORY, short, long, strict=True):
        assert (one[:3], one[3].replace(b"eu-west-1", b"eu-west-2")) == (other[:3], other[3]), (operation, content)
    assert {answer[0] for answer in short} >= {200, 400, 500}


@pytest.mark.parametrize(
    "request_",
    [
        asked("ListTables", {}, "eu-west-3", origin="http://localhost"),
        asked("ListTables", {}, "eu-west-3", content_encoding="gzip"),
        asked("ListTables", {}, "eu-west-3", x_amz_target="DynamoDBStreams_20120810.ListStreams"),
        asked("ListTables", {}, "eu-west-3", authorization=""),
    ],
    ids=["of a page", "compressed", "another service", "not signed"],
)
def test_what_goes_the_long_way(request_: Request) -> None:
    assert not moto_dynamodb.takes(request_)


def test_a_compressed_request_is_understood(moto: Moto) -> None:
    request = asked("ListTables", {}, "eu-south-2", content_encoding="gzip")
    request.body = gzip.compress(request.body)
    assert json.loads(moto._perform(request).body) == {"TableNames": []}


@pytest.mark.parametrize("region", ["nowhere", ""])
def test_a_region_that_aws_has_not_is_named(moto: Moto, region: str) -> None:
    answer = moto._perform_locked(asked("ListTables", {}, region))
    assert answer.status == 400 and f"There is no region '{region}'. Set AWS_REGION" in answer.body.decode()
