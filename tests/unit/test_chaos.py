"""The checks of the storm: they must find errors, or the storm proves nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from pipeline import kpl
from pipeline.hash_keys import bounded
from pipeline.record import Position
from tests.chaos import hostile
from tests.chaos.checks import Letter, Row, judge
from tests.chaos.expected import Truth, User, taken_apart
from tests.chaos.producer import BAD, Mixer, kind_of, number_of, payload
from tests.chaos.schedule import DECK, deal

GOOD = [f"events/shard-0/{number}/0" for number in range(4)]
POISON = "events/shard-0/9/0"
BROKEN = "events/shard-0/9/1"
TRUTH = Truth(
    payloads={**{record_id: payload(n, "") for n, record_id in enumerate(GOOD)}, POISON: b"", BROKEN: payload(9, "")},
    broken={BROKEN},
    keyless={GOOD[2]},
)


def row(number: int, **other: Any) -> Row:
    return replace(Row(GOOD[number], "1-shard-0", Position(number, 0), number, number == 2), **other)


def letter(record_id: str = POISON, **other: Any) -> Letter:
    return Letter(record_id, "decode", "payload is not JSON", TRUTH.payloads.get(record_id, b""))._replace(**other)


ROWS = [row(n) for n in range(4)]
OF_AN_AGGREGATE = letter(BROKEN, kind="aggregate", reason="no such key")


def test_each_record_once_is_well() -> None:
    verdict = judge(TRUTH, ROWS, [letter(), OF_AN_AGGREGATE])
    assert verdict.problems() == []
    assert (verdict.put, verdict.rows, verdict.dead_letters) == (6, 4, {"decode": 1, "aggregate": 1})
    assert verdict.keyless == 1


LETTERS = [letter(), OF_AN_AGGREGATE]


@pytest.mark.parametrize(
    ("rows", "letters", "said"),
    [
        (ROWS[:-1], LETTERS, f"1 lost: {GOOD[3]}"),
        (ROWS, [OF_AN_AGGREGATE], f"1 lost: {POISON}"),
        (ROWS, [letter()], f"1 lost: {BROKEN}"),
        ([*ROWS, row(3, place="other")], LETTERS, f"1 doubled: {GOOD[3]}"),
        (ROWS, [letter(), *LETTERS], f"1 doubled: {POISON}"),
        (ROWS[:-1], [*LETTERS, letter(GOOD[3])], f"1 healthy and dead-lettered: {GOOD[3]} (payload is not JSON)"),
        ([*ROWS, row(0, record_id=POISON, place="other")], LETTERS, f"1 poison and enriched: {POISON}"),
        ([*ROWS, row(0, record_id=BROKEN, place="other")], LETTERS, f"1 poison and enriched: {BROKEN}"),
        ([*ROWS[:3], row(3, n=7)], LETTERS, f"1 with another record's result or key: {GOOD[3]}"),
        ([*ROWS[:3], row(3, keyless=True)], LETTERS, f"1 with another record's result or key: {GOOD[3]}"),
        ([ROWS[0], ROWS[2], ROWS[1], ROWS[3]], LETTERS, f"1 out of order: {GOOD[1]}"),
        (ROWS, [letter(payload=b"x")], f"1 dead-lettered otherwise than it was put: {POISON} (decode"),
        (ROWS, [letter(BROKEN)], f"1 dead-lettered otherwise than it was put: {BROKEN} (decode"),
        (ROWS, [letter(kind="aggregate")], f"1 dead-lettered otherwise than it was put: {POISON} (aggregate"),
    ],
)
def test_every_problem_is_found(rows: list[Row], letters: list[Letter], said: str) -> None:
    assert any(problem.startswith(said) for problem in judge(TRUTH, rows, letters).problems())


def test_records_that_were_never_put_are_found() -> None:
    alien = "events/shard-0/77/0"
    assert f"1 never put: {alien}" in judge(TRUTH, ROWS, [letter(), letter(alien), OF_AN_AGGREGATE]).problems()


def test_an_answer_that_does_not_hold_is_seen() -> None:
    truth = Truth(raw={("shard-0", "1"): b"one", ("shard-0", "2"): b"two"})
    assert truth.missing({("shard-0", "1"): b"one"}) == []
    assert truth.missing({("shard-0", "2"): b"else", ("shard-1", "1"): b"one"}) == ["shard-0/2", "shard-1/1"]


def test_every_payload_names_its_kind() -> None:
    assert [kind_of(payload(3, kind)) for kind in ("", *BAD)] == ["", *BAD]
    assert number_of(payload(3, "")) == 3


def test_a_flow_has_every_kind_of_poison_and_aggregates_that_can_be_taken_apart() -> None:
    puts = list(Mixer(seed=1).some(2_000))
    records = [data for put in puts for data, is_broken in taken_apart(put.data) if not is_broken]
    assert len(records) > len(puts)
    assert {kind_of(data) for data in records} == {"", *BAD}
    numbers = [number_of(data) for data in records if not kind_of(data)]
    assert len(numbers) == len(set(numbers))


def test_a_seed_deals_the_same_storm_and_a_long_one_has_every_act() -> None:
    acts = deal(7, 600)
    assert acts == deal(7, 600) != deal(8, 600)
    assert {act.name for act in acts} == {card.name for card in DECK}
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_hostile_aggregate_is_read_by_protobuf_as_it_is_by_penstock(kind: str) -> None:
    numbers = itertools.count()
    for put in hostile.puts(kind, lambda: next(numbers), "key"):
        read = taken_apart(put.data)
        try:
            message = kpl.message(put.data)
        except kpl.Malformed:
            assert read == [User(put.data, broken=True)]
            continue
        users = [(put.data, "", 0, "")] if message is None else message.users()
        assert read == [User(data, bool(fault)) for data, _, _, fault in users]


def test_the_largest_aggregates_have_full_size_and_go_to_the_shard_of_their_keys() -> None:
    found: dict[str, list[int]] = {}
    for _, puts in Mixer(seed=1).giants(1.0, 600):
        for put in puts:
            assert len(put.data) + len(put.key) <= 2**20
            message = kpl.message(put.data)
            assert message is not None
            keys = {key for _, key, _, _ in itertools.islice(message.users(), 100)}
            assert len(keys) == 1
            key = "K" * hostile.LARGEST_KEY if put.hash_key else put.key  # a reader shortens what is that long
            assert (put.hash_key or hostile.hash_of(put.key)) == hostile.hash_of(key)
            assert keys == {bounded(key)}
            found.setdefault(str(message.count), []).append(len(put.data))
    assert {count: len(sizes) for count, sizes in found.items()} == {"97000": 1, "4000": 1, "170000": 3, "1666": 210}
    assert all(size == pytest.approx(hostile.BACKLOG_BYTES, rel=0.03) for size in found["1666"])
