"""Records that an operator passes over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from consumer.poison import reader
from consumer.poison.doubt import Doubt, Skip
from pipeline.aggregate import aggregate_or_record
from pipeline.record import LAST_SUB, Dead, Position, Record
from tests.support.careful import DEATHS, Rig, aggregates, plain


def over(sequence: int, sub: int = LAST_SUB) -> Doubt:
    return Doubt().with_skip(Skip(Position(sequence, sub), "ticket 7"))


def given(letters: Sequence[Record]) -> list[tuple[str, str, str]]:
    return [
        (str(letter.position), letter.outcome.kind, letter.outcome.reason)
        for letter in letters
        if isinstance(letter.outcome, Dead)
    ]


def test_a_record_that_an_operator_passes_over_is_a_dead_letter_and_its_neighbours_are_rows() -> None:
    rig = Rig(lambda: plain(300), over(150), Position(119, 0))
    asyncio.run(rig.read())
    assert given(rig.letters) == [("150/0", "skipped", "an operator passed over it: ticket 7")]
    assert rig.rows == [f"{number}/0" for number in range(120, 151)], "behind it, the shard is KCL's again"
    assert rig.notes.tried == [
        (Position(120, 0), Position(149, 0)),
        (Position(150, 0), Position(150, 0)),
    ], "it is by itself, and never tried with another"
    assert rig.notes.checkpoints[-1].sequence == 150
    assert rig.notes.freed == [Doubt()]


def test_several_are_passed_over_and_the_shard_is_read_up_to_the_last() -> None:
    doubt = over(101).with_skip(Skip(Position(103, LAST_SUB), "too"))
    rig = Rig(lambda: plain(10), doubt, None)
    asyncio.run(rig.read())
    assert [at for at, _, _ in given(rig.letters)] == ["101/0", "103/0"]
    assert len(rig.rows) == 4


def test_a_skipped_aggregate_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def look(record: Record) -> Record:
        looked.append(record.sequence)
        return aggregate_or_record(record)

    monkeypatch.setattr(reader, "aggregate_or_record", look)
    rig = Rig(aggregates, over(101), None)
    asyncio.run(rig.read())
    letter = rig.letters[0].outcome
    assert isinstance(letter, Dead)
    assert (looked, letter.payload) == (["100"], aggregates()[1].data)
    assert given(rig.letters) == [("101/0", "skipped", "an operator passed over it: ticket 7")]
    assert rig.rows == [f"100/{sub}" for sub in range(200)] + ["101/0"]
    assert rig.notes.checkpoints[-1].sequence == 101


def test_of_an_aggregate_one_user_record_is_passed_over() -> None:
    rig = Rig(aggregates, over(100, 70), None)
    asyncio.run(rig.read())
    assert given(rig.letters) == [("100/70", "skipped", "an operator passed over it: ticket 7")]
    assert rig.rows[:200] == [f"100/{sub}" for sub in range(200)], "KCL does not read the rest of it again"
    assert rig.notes.checkpoints[-1].sequence == 100


def test_a_durable_record_is_not_skipped() -> None:
    rig = Rig(lambda: plain(10), over(105), Position(105, 0))
    asyncio.run(rig.read())
    assert (rig.rows, rig.notes.freed) == ([], [Doubt()])


def test_a_shard_over_which_tasks_died_is_read_on_after_a_skipped_record() -> None:
    doubt = Doubt(deaths=DEATHS, read=Position(150, 0)).with_skip(Skip(Position(110, LAST_SUB), "x"))
    rig = Rig(lambda: plain(100), doubt, None)
    asyncio.run(rig.read())
    assert [at for at, _, _ in given(rig.letters)] == ["110/0"]
    assert len(rig.rows) == 100


def test_sigterm_before_the_record_keeps_the_operators_request() -> None:
    rig = Rig(lambda: plain(1_000), over(900), None)

    async def leave() -> None:
        trying = asyncio.Event()
        rig.notes.on_step = trying.set
        reading = asyncio.ensure_future(rig.read())
        await trying.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(leave())
    assert rig.notes.freed[0].skips == over(900).skips
    assert rig.notes.freed[0].deaths == ()
