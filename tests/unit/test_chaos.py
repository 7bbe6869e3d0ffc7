"""The storm's own arithmetic: it must see what is wrong, or it proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.record import Position
from tests.chaos.flow import BAD, Mixer, kind_of, number_of, payload
from tests.chaos.plan import DECK, deal
from tests.chaos.truth import Truth, taken_apart
from tests.chaos.verdict import Row, judge

GOOD = [f"events/shard-0/{number}/0" for number in range(4)]
POISON = "events/shard-0/9/0"
TRUTH = Truth(payloads={**{record_id: payload(n, "") for n, record_id in enumerate(GOOD)}, POISON: b""})


def row(number: int, **other: Any) -> Row:
    return replace(Row(GOOD[number], "1-shard-0", Position(number, 0), number), **other)


def letter(record_id: str = POISON) -> dict[str, str]:
    return {"record_id": record_id, "kind": "decode", "reason": "payload is not JSON"}


ROWS = [row(n) for n in range(4)]


def test_each_record_once_is_well() -> None:
    verdict = judge(TRUTH, ROWS, [letter()])
    assert verdict.problems() == []
    assert (verdict.put, verdict.rows, verdict.dead_letters) == (5, 4, {"decode": 1})


@pytest.mark.parametrize(
    ("rows", "letters", "said"),
    [
        (ROWS[:-1], [letter()], f"1 lost: {GOOD[3]}"),
        (ROWS, [], f"1 lost: {POISON}"),
        ([*ROWS, row(3, place="other")], [letter()], f"1 doubled: {GOOD[3]}"),
        (ROWS, [letter(), letter()], f"1 doubled: {POISON}"),
        (ROWS[:-1], [letter(), letter(GOOD[3])], f"1 healthy and dead-lettered: {GOOD[3]} (payload is not JSON)"),
        ([*ROWS, row(0, record_id=POISON, place="other")], [], f"1 poison and enriched: {POISON}"),
        ([*ROWS[:3], row(3, n=7)], [letter()], f"1 with another record's result: {GOOD[3]}"),
        ([ROWS[0], ROWS[2], ROWS[1], ROWS[3]], [letter()], f"1 out of order: {GOOD[1]}"),
    ],
)
def test_whatever_is_wrong_is_seen(rows: list[Row], letters: list[dict[str, str]], said: str) -> None:
    assert said in judge(TRUTH, rows, letters).problems()


def test_what_was_never_put_is_seen() -> None:
    alien = "events/shard-0/77/0"
    assert f"1 never put: {alien}" in judge(TRUTH, ROWS, [letter(), letter(alien)]).problems()


def test_an_answer_that_does_not_hold_is_seen() -> None:
    truth = Truth(raw={("shard-0", "1"): b"one", ("shard-0", "2"): b"two"})
    assert truth.missing({("shard-0", "1"): b"one"}) == []
    assert truth.missing({("shard-0", "2"): b"else", ("shard-1", "1"): b"one"}) == ["shard-0/2", "shard-1/1"]


def test_every_payload_says_what_it_is() -> None:
    assert [kind_of(payload(3, kind)) for kind in ("", *BAD)] == ["", *BAD]
    assert number_of(payload(3, "")) == 3


def test_a_flow_has_every_kind_of_poison_and_aggregates_that_can_be_taken_apart() -> None:
    puts = list(Mixer(seed=1).some(2_000))
    records = [data for put in puts for data in taken_apart(put.data)]
    assert len(records) > len(puts)
    assert {kind_of(data) for data in records} == {"", *BAD}
    numbers = [number_of(data) for data in records if not kind_of(data)]
    assert len(numbers) == len(set(numbers))


def test_a_seed_deals_the_same_storm_and_a_long_one_has_every_act() -> None:
    acts = deal(7, 600)
    assert acts == deal(7, 600) != deal(8, 600)
    assert {act.name for act in acts} == {card.name for card in DECK}
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)
