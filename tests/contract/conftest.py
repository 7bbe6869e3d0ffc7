"""KCL's tables and a stream, on moto."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from consumer.leases import tables as lease_tables
from consumer.local import moto_speed
from tests.support.kcl_tables import APP, STREAM, held_by_moto

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[DynamoDBClient, KinesisClient]]:
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        moto_speed.improve()
        yield made_clients()


@cache
def made_clients() -> tuple[DynamoDBClient, KinesisClient]:
    """Made once: the files of a process share them, each with a moto of its own."""
    import boto3

    return boto3.client("dynamodb", region_name="us-east-1"), boto3.client("kinesis", region_name="us-east-1")


@pytest.fixture(scope="module")
def emptied(clients: tuple[DynamoDBClient, KinesisClient]) -> dict[str, Any]:
    """An application's tables without leases, as moto holds them: copies of them are made in a tenth of the time."""
    lease_tables.make_tables(clients[0], APP)
    made = copy.deepcopy(held_by_moto())
    held_by_moto().clear()
    return made


@pytest.fixture
def dynamodb(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[DynamoDBClient]:
    """moto without tables."""
    yield clients[0]
    held_by_moto().clear()


@pytest.fixture
def kinesis(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[KinesisClient]:
    """moto with one stream of three shards."""
    clients[1].create_stream(StreamName=STREAM, ShardCount=3)
    yield clients[1]
    clients[1].delete_stream(StreamName=STREAM)


@pytest.fixture
def tables(emptied: dict[str, Any], dynamodb: DynamoDBClient) -> DynamoDBClient:
    """An application's tables without leases."""
    held_by_moto().update(copy.deepcopy(emptied))
    return dynamodb
