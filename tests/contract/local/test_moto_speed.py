"""moto answers the same where we have made it quicker."""

from __future__ import annotations

import json
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
    "list": {"L": [{"S": "a"}, {"N": "1"}, {"M": {"deep": {"BOOL": True}}}]},
    "map": {"M": {"S": {"S": "a"}, "N": {"L": []}}},
}
KEY = {"k": ITEM["k"]}


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
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    ask(moto, "PutItem", TableName=table, Item=ITEM)
    change = {"UpdateExpression": "SET yes = :n", "ExpressionAttributeValues": {":n": {"N": "7"}}}
    return [
        ask(moto, "Scan", TableName=table),
        ask(moto, "GetItem", TableName=table, Key=KEY),
        ask(moto, "BatchGetItem", RequestItems={table: {"Keys": [KEY]}})["Responses"][table],
        ask(moto, "UpdateItem", TableName=table, Key=KEY, ReturnValues="ALL_NEW", **change)["Attributes"],
        ask(moto, "Scan", TableName=table),
    ]


def test_every_type_of_attribute_is_answered_as_moto_answers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moto = Moto(lambda *asked: {})
    moto._application()
    from moto.core import serialize

    looked: list[str] = []
    picker = serialize.ResponseSerializer.get_value

    def get_value(self: Any, value: Any, key: str, shape: Any) -> Any:
        looked.append(key)
        return picker(self, value, key, shape)

    monkeypatch.setattr(serialize.ResponseSerializer, "get_value", get_value)
    quick = all_answers(moto, "quick")
    looks = len(looked)
    improved = serialize.BaseJSONSerializer._serialize_type_structure
    monkeypatch.setattr(serialize.BaseJSONSerializer, "_serialize_type_structure", improved.__wrapped__)  # type: ignore[attr-defined]
    assert all_answers(moto, "slow") == quick
    assert len(looked) - looks > 1.3 * looks
    assert quick[0]["Items"] == [ITEM]
    moto.close()


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
