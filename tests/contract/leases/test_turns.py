"""The order in which workers start, on moto's DynamoDB."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from consumer.leases import turns
from tests.support.kcl_tables import APP, lead

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(autouse=True)
def turns_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    monkeypatch.setattr(turns, "TURN_POLL_S", 0.001)


def test_with_a_leader_no_worker_waits_for_a_turn(tables: DynamoDBClient) -> None:
    lead(tables, "other")
    assert not turns.take_turn(tables, APP, "me")


def test_without_a_leader_one_takes_a_turn_and_the_other_waits_for_the_leader(
    tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 60.0)
    assert turns.take_turn(tables, APP, "first")
    monkeypatch.setattr("time.sleep", lambda seconds: lead(tables, "first"))
    assert not turns.take_turn(tables, APP, "second")


def test_a_turn_that_came_to_nothing_ends(tables: DynamoDBClient) -> None:
    assert turns._took_turn(tables, f"{APP}-CoordinatorState", "first", time.time() - 60)
    assert turns.take_turn(tables, APP, "second")


def test_no_worker_waits_for_a_turn_for_ever(tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns._took_turn(tables, f"{APP}-CoordinatorState", "first", time.time() + 60)
    assert not turns.take_turn(tables, APP, "second")


def test_without_tables_there_are_no_turns(dynamodb: DynamoDBClient) -> None:
    assert not turns.take_turn(dynamodb, APP, "me")
