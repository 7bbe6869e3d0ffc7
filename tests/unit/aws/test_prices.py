"""Prices: with a date, by region, and unknown if the file has none; and the daily price of shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.admin.shards.cost import daily
from consumer.admin.shards.report import money
from consumer.aws import prices
from consumer.aws.cloudtrail import recounts
from pipeline.errors import UserError


def test_each_price_of_the_package_has_a_source_and_a_date() -> None:
    said = json.loads(Path(prices.__file__).with_name("prices.json").read_text())
    found = [item for region in said["regions"].values() for item in region.values()]
    assert found and all(item["source"] and item["date"] for item in found)


def test_the_daily_price_of_shards_equals_a_manual_calculation() -> None:
    known = prices.load("us-east-1")
    assert known.source == "prices.json of this version, 2026-11-27"
    assert daily(known, 8, consumers=0, retention_hours=24).total == pytest.approx(8 * 0.015 * 24)  # 2.88
    all_of_it = daily(known, 8, consumers=2, retention_hours=48)
    assert all_of_it.total == pytest.approx(2.88 + 2 * 2.88 + 8 * 0.02 * 24)
    assert money(all_of_it.total, known.currency) == "12.48 USD"


@pytest.mark.parametrize(("consumers", "hours"), [(None, 24), (0, None)])
def test_an_unknown_price_makes_the_sum_unknown(consumers: int | None, hours: int | None) -> None:
    found = daily(prices.load("us-east-1"), 8, consumers=consumers, retention_hours=hours)
    assert found.total is None
    assert found.parts["shards"] == pytest.approx(2.88)
    assert money(found.total, "USD") == "unknown"


def test_a_region_that_the_file_has_not_is_unknown() -> None:
    assert daily(prices.load("eu-north-1"), 8, consumers=0, retention_hours=24).total is None


def test_ones_own_prices_are_taken_instead(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    item = {"kinesis_shard_hour": {"price": 1}}
    path.write_text(json.dumps({"currency": "EUR", "collected": "2030-01-01", "regions": {"eu-north-1": item}}))
    known = prices.load("eu-north-1", path)
    assert (known.of("kinesis_shard_hour"), known.currency, known.source) == (1.0, "EUR", f"{path}, 2030-01-01")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"regions": {"r": {"a": {"price": "1"}}}, "currency": "x"}', "7"])
def test_a_file_of_another_form_is_the_users_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError, match="--prices"):
        prices.load("r", path)


class Trail:
    """CloudTrail with some events, on pages of one."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = events

    def get_paginator(self, name: str) -> Trail:
        assert name == "lookup_events"
        return self

    def paginate(self, **request: Any) -> list[dict[str, Any]]:
        assert request["LookupAttributes"] == [{"AttributeKey": "EventName", "AttributeValue": "UpdateShardCount"}]
        return [{"Events": [event]} for event in self.events]


def test_calls_in_cloudtrail_count_if_they_were_of_this_stream_and_taken() -> None:
    from datetime import UTC, datetime

    def event(at_s: float, error: str = "", **asked: str) -> dict[str, Any]:
        said = {"requestParameters": asked} | ({"errorCode": error} if error else {})
        return {"EventTime": datetime.fromtimestamp(at_s, UTC), "CloudTrailEvent": json.dumps(said)}

    trail = Trail(
        event(30.0, streamARN="arn"),
        event(10.0, streamName="s"),
        event(20.0, streamName="other"),
        event(40.0, "LimitExceededException", streamName="s"),
        {"EventTime": datetime.fromtimestamp(50, UTC), "CloudTrailEvent": "not JSON"},
        {"EventTime": datetime.fromtimestamp(60, UTC), "CloudTrailEvent": '{"requestParameters": null}'},
    )
    assert recounts(trail, "s", "arn", 0.0) == [10.0, 30.0]
