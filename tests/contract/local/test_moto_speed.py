"""moto answers the same where we have made it quicker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.local.moto_services import Moto
from consumer.local.moto_speed import is_plain
from consumer.local.request import Request

ITEM: dict[str, Any] = {
    "k": {"S": "é \u2028"},
    "number": {"N": "12345678901234567890.5"},
    "empty": {"S": ""},
    "yes": {"BOOL": True},
    "no": {"BOOL": False},
    "null": {"NULL": True},
    "binary": {"B": "AP8="},
    "texts": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2"]},
    "binaries": {"BS": ["AP8="]},
    "things": {"L": [{"S": "a"}, {"N": "1"}, {"M": {"deep": {"BOOL": True}}}]},
    "map": {"M": {"S": {"S": "a"}, "N": {"L": []}}},
}
KEY = {"k": ITEM["k"]}
NAMES = {"#b": "binary"}


def ask(moto: Moto, operation: str, **body: Any) -> Any:
    content = json.dumps(body).encode()
    headers = {
        "host": "127.0.0.1",
        "x-amz-target": f"DynamoDB_20120810.{operation}",
        "content-type": "application/x-amz-json-1.0",
        "authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/eu-west-3/dynamodb/aws4_request",
    }
    raw = list(headers.items())
    answer = moto._perform(Request("POST", "/", b"/", b"", headers, raw, content, "1.1", None))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def all_answers(moto: Moto, table: str) -> list[Any]:
    ask(
        moto,
        "CreateTable",
        TableName=table,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("k", "other")],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-other",
                "KeySchema": [{"AttributeName": "other", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    ask(moto, "PutItem", TableName=table, Item=ITEM)
    change = {"UpdateExpression": "SET yes = :n", "ExpressionAttributeValues": {":n": {"N": "7"}}}
    ask(moto, "PutItem", TableName=table, Item={"k": {"S": "2"}, "other": {"S": "o"}, "another": {"N": "1"}})
    other = {"KeyConditionExpression": "other = :o", "ExpressionAttributeValues": {":o": {"S": "o"}}}
    parts = {"ProjectionExpression": "things[2].deep, #b, texts, nothing", "ExpressionAttributeNames": NAMES}
    return [
        ask(moto, "Scan", TableName=table)["Items"],
        ask(moto, "Query", TableName=table, IndexName="by-other", **other)["Items"],
        ask(moto, "GetItem", TableName=table, Key=KEY, **parts),
        ask(moto, "GetItem", TableName=table, Key={"k": {"S": "3"}}),
        ask(moto, "DescribeTable", TableName=table)["Table"]["GlobalSecondaryIndexes"][0]["KeySchema"],
        ask(moto, "GetItem", TableName=table, Key=KEY),
        ask(moto, "BatchGetItem", RequestItems={table: {"Keys": [KEY]}})["Responses"][table],
        ask(moto, "UpdateItem", TableName=table, Key=KEY, ReturnValues="ALL_NEW", **change)["Attributes"],
        ask(moto, "Scan", TableName=table)["Items"],
    ]


@pytest.fixture
def moto() -> Iterator[Moto]:
    made = Moto(lambda *asked: {})
    made._warm_up()
    yield made
    made.close()


def test_it_answers_as_without_the_improvements(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = all_answers(moto, "quick")
    for holder, name in improved():
        monkeypatch.setattr(holder, name, getattr(holder, name).__wrapped__)
    assert all_answers(moto, "slow") == quick
    assert ITEM in quick[0]
    assert quick[1] == [{"k": {"S": "2"}, "other": {"S": "o"}}]


def improved() -> list[tuple[Any, str]]:
    from moto.core import serialize
    from moto.dynamodb.models import dynamo_type

    return [
        (serialize.BaseJSONSerializer, "_serialize_type_structure"),
        (serialize.ResponseSerializer, "get_value"),
        (dynamo_type.DynamoType, "to_regular_json"),
        (dynamo_type.Item, "project"),
    ]


def test_the_improvements_are_used(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.core import serialize

    looked: list[str] = []
    picker = serialize.AttributePicker.__call__

    def pick(self: Any, context: Any) -> Any:
        looked.append(context.key)
        return picker(self, context)

    monkeypatch.setattr(serialize.AttributePicker, "__call__", pick)
    all_answers(moto, "used")
    assert looked == []


def test_a_random_text_has_the_length_and_the_letters_that_moto_asks_for(moto: Moto) -> None:
    from moto.moto_api._internal import mock_random

    assert re.fullmatch("[A-Za-z0-9]{52}", mock_random.get_random_string(length=52))
    assert re.fullmatch("[a-z]{20}", mock_random.get_random_string(include_digits=False, lower_case=True))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"S": "a"}, True),
        ({"N": "1"}, True),
        ({"BOOL": False}, True),
        ({"N": 1}, False),
        ({"BOOL": 1}, False),
        ({"S": b"a"}, False),
        ({"B": "AA=="}, False),
        ({"S": "a", "N": "1"}, False),
        ({}, False),
        ("a", False),
    ],
)
def test_what_is_plain(value: object, plain: bool) -> None:
    assert is_plain(value) is plain
