"""KCL's tables and a stream, on moto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from consumer.leases import tables as lease_tables
from consumer.local import moto_speed
from tests.support.kcl_tables import APP, STREAM

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[DynamoDBClient, KinesisClient]]:
    import boto3
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        moto_speed.improve()
        yield boto3.client("dynamodb", region_name="us-east-1"), boto3.client("kinesis", region_name="us-east-1")


@pytest.fixture
def dynamodb(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[DynamoDBClient]:
    """moto without tables."""
    yield clients[0]
    for name in clients[0].list_tables()["TableNames"]:
        clients[0].delete_table(TableName=name)


@pytest.fixture
def kinesis(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[KinesisClient]:
    """moto with one stream of three shards."""
    clients[1].create_stream(StreamName=STREAM, ShardCount=3)
    yield clients[1]
    clients[1].delete_stream(StreamName=STREAM)


@pytest.fixture
def tables(dynamodb: DynamoDBClient) -> DynamoDBClient:
    """An application's tables without leases."""
    lease_tables.make_tables(dynamodb, APP)
    return dynamodb
