"""The rules of injected faults: which requests a rule affects."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.local.faults import KINDS, FaultRule, Faults


def picks(rule: dict[str, Any], requests: int) -> list[bool]:
    faults = Faults()
    faults.add(FaultRule.parse(rule))
    return [faults.pick("kinesis", "GetRecords", b"/") is not None for _ in range(requests)]


def test_a_rule_without_conditions_affects_every_request() -> None:
    assert picks({"kind": "error"}, 3) == [True, True, True]


@pytest.mark.parametrize(("name", "value"), [("service", "s3"), ("operation", "PutRecord"), ("match", "other")])
def test_a_rule_affects_only_what_it_names(name: str, value: str) -> None:
    assert picks({"kind": "error", name: value}, 3) == [False, False, False]


def test_a_rule_ends_with_its_count() -> None:
    assert picks({"kind": "error", "count": 2}, 4) == [True, True, False, False]


def test_chance_falls_the_same_way_for_the_same_seed_and_otherwise_for_another() -> None:
    rule = {"kind": "error", "probability": 0.5}
    assert picks({**rule, "seed": 7}, 50) == picks({**rule, "seed": 7}, 50)
    assert picks({**rule, "seed": 7}, 50) != picks({**rule, "seed": 8}, 50)
    assert 10 < sum(picks({**rule, "seed": 7}, 50)) < 40


def test_a_match_is_searched_in_the_path_and_in_the_body() -> None:
    faults = Faults()
    faults.add(FaultRule.parse({"kind": "error", "match": "events"}))
    assert faults.pick("s3", "PutObject", b"/bucket/events/1", b"") is not None
    assert faults.pick("kinesis", "PutRecord", b"/", b'{"StreamName":"events"}') is not None
    assert faults.pick("kinesis", "PutRecord", b"/", b'{"StreamName":"others"}') is None


def test_the_first_rule_that_concerns_a_request_is_used_and_counts_it() -> None:
    faults = Faults()
    first = faults.add(FaultRule.parse({"kind": "delay", "count": 1}))
    second = faults.add(FaultRule.parse({"kind": "error"}))
    assert [faults.pick("s3", "GetObject", b"/") for _ in range(2)] == [first, second]
    assert (first.hits, second.hits) == (1, 1)


def test_removing_a_rule_ends_what_it_stalls_and_leaves_the_others() -> None:
    faults = Faults()
    gone, stays = (faults.add(FaultRule.parse({"kind": "stall"})) for _ in range(2))
    assert faults.remove(gone.id) == [gone]
    assert gone.over.is_set()
    assert not stays.over.is_set()
    assert faults.all() == [stays]
    assert faults.remove() == [stays]
    assert not faults


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ([], "a fault must be an object"),
        ({}, "kind"),
        ({"kind": "explode"}, "explode"),
        ({"kind": "error", "hits": 3}, "unknown field hits"),
        ({"kind": "error", "count": "3"}, "count"),
        ({"kind": "error", "count": True}, "count"),
        ({"kind": "error", "performed": 1}, "performed"),
        ({"kind": "error", "status": 500.5}, "status"),
        *(
            ({"kind": "error", "status": status}, "status: .* is not between 200 and 599")
            for status in (99999, -1, 100)
        ),
        *(({"kind": "delay", "delay_s": delay}, "delay_s: .* is not between 0 and 3600") for delay in (-1, 1e308)),
        ({"kind": "delay", "delay_s": float("nan")}, "delay_s: nan is not between"),
        ({"kind": "error", "probability": 2}, "probability: 2 is not between 0 and 1"),
        ({"kind": "partial", "share": 7}, "share: 7 is not between 0 and 1"),
        ({"kind": "error", "count": -1}, "count: -1 is not between 1 and"),
    ],
)
def test_a_rule_with_a_mistake_says_what_it_is(rule: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FaultRule.parse(rule)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_asked_for_and_shown(kind: str) -> None:
    shown = FaultRule.parse({"kind": kind, "count": None}).to_dict()
    assert (shown["kind"], shown["hits"]) == (kind, 0)
