"""Of concurrent conditional writes one wins in the local AWS, although moto checks first and writes later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from moto.dynamodb.models.table import Table
from moto.s3.models import S3Backend

from consumer.local.moto_services import Moto
from consumer.local.request import Request

WRITERS = 5
BETWEEN_S = 0.02


def signed(service: str, method: str, path: str, body: bytes = b"", **more: str) -> Request:
    scope = f"AWS4-HMAC-SHA256 Credential=k/20261127/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    headers = {
        "host": "127.0.0.1:4567",
        "authorization": scope,
        **{name.replace("_", "-"): more[name] for name in more},
    }
    listed = list(headers.items())
    return Request(method, path, path.encode(), b"", headers, listed, body, "1.1", None)


def dynamodb(operation: str, body: str) -> Request:
    target = {"x_amz_target": f"DynamoDB_20120810.{operation}", "content_type": "application/x-amz-json-1.0"}
    return signed("dynamodb", "POST", "/", body.encode(), **target)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check takes some time before the write that depends on it."""

    def made_slow(look: Any) -> Any:
        def late(*args: Any, **kwargs: Any) -> Any:
            found = look(*args, **kwargs)
            time.sleep(BETWEEN_S)
            return found

        return late

    monkeypatch.setattr(S3Backend, "get_object", made_slow(S3Backend.get_object))
    monkeypatch.setattr(Table, "get_item", made_slow(Table.get_item))


@pytest.mark.usefixtures("slow")
def test_of_objects_that_must_be_new_one_is_written() -> None:
    async def main() -> list[int]:
        moto = Moto(lambda *asked: {})
        try:
            assert (await moto.answer(signed("s3", "PUT", "/lake"))).status == 200
            puts = [signed("s3", "PUT", "/lake/key", b"%d" % n, if_none_match="*") for n in range(WRITERS)]
            return sorted(answer.status for answer in await asyncio.gather(*map(moto.answer, puts)))
        finally:
            moto.close()

    assert asyncio.run(main()) == [200] + [412] * (WRITERS - 1)


@pytest.mark.usefixtures("slow")
def test_of_changes_to_a_lease_one_is_made() -> None:
    schema = '"KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST"'
    typed = '"AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}]'
    take = (
        '{"TableName": "app", "Key": {"leaseKey": {"S": "shard"}}, "UpdateExpression": "ADD leaseCounter :one",'
        '"ConditionExpression": "attribute_not_exists(leaseCounter)",'
        '"ExpressionAttributeValues": {":one": {"N": "1"}}}'
    )

    async def main() -> list[int]:
        moto = Moto(lambda *asked: {})
        try:
            made = await moto.answer(dynamodb("CreateTable", f'{{"TableName": "app", {schema}, {typed}}}'))
            assert made.status == 200, made.body
            takes = [dynamodb("UpdateItem", take) for _ in range(WRITERS)]
            return sorted(answer.status for answer in await asyncio.gather(*map(moto.answer, takes)))
        finally:
            moto.close()

    assert asyncio.run(main()) == [200] + [400] * (WRITERS - 1)
