"""A careful reader with fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from consumer.poison import reader
from consumer.poison.doubt import PIECE, Death, Doubt, piece_after
from consumer.testing import aggregate
from pipeline.aggregate import aggregate_or_record
from pipeline.errors import Broken, Fatal
from pipeline.record import Dead, Position, Record
from tests.support.careful import DEATHS, SHARD, Rig, aggregates, plain


def test_pieces_are_noted_before_they_are_tried_and_durable_before_the_next() -> None:
    rig = Rig(lambda: plain(300), Doubt(deaths=DEATHS), None)
    rig.slow_s = 2.0
    asyncio.run(rig.read())
    assert rig.notes.tried == [(Position(100 + n, 0), Position(min(227 + n, 399), 0)) for n in (0, 128, 256)]
    assert rig.notes.checkpoints == [Position(227, 0), Position(355, 0), Position(399, 0)]
    assert len(rig.rows) == 300
    assert rig.notes.freed == [Doubt()]


def test_pieces_grow_while_they_are_quick() -> None:
    data = aggregate([b"{}"] * 5_000)
    rig = Rig(lambda: [Record(SHARD.shard_id, data, None, "100", 0, 1)], Doubt(deaths=DEATHS), None)
    asyncio.run(rig.read())
    sizes = [last.sub - first.sub + 1 for first, last in rig.notes.tried if last.sub < 5_000]
    assert sizes == [128, *[256] * 19, 8]
    assert len(rig.rows) == sum(sizes) == 5_000
    assert [piece_after(512, seconds) for seconds in (1.9, 2.1, 8.1)] == [1024, 512, 256]
    assert piece_after(PIECE, 100.0) == PIECE


def test_pieces_are_large_beyond_the_position_of_a_watched_task() -> None:
    """A large piece over which a task dies is tried again in small ones, and a small one record by record."""
    data = aggregate([b"{}"] * 5_000)
    doubt = Doubt(deaths=DEATHS, met=Position(100, 199))

    def tried() -> list[tuple[int, int]]:
        rig = Rig(lambda: [Record(SHARD.shard_id, data, None, "100", 0, 1)], doubt, None)
        asyncio.run(rig.read())
        assert len(rig.rows) == 5_000 - doubt_passed(doubt)
        return [(first.sub, last.sub) for first, last in rig.notes.tried if last.sub < 5_000]

    assert tried() == [(0, 127), (128, 383), (384, 895), (896, 1919), (1920, 3967), (3968, 4999)]
    doubt = doubt.passes(Position(100, 895)).tries(Position(100, 896), Position(100, 1919)).died("c", "z")
    assert (doubt.wide, doubt.narrow) == (Position(100, 1919), None)
    small = [(896, 1023), (1024, 1279), (1280, 1535), (1536, 1791), (1792, 2047)]
    assert tried()[:5] == small and tried()[-1][0] > 3_000
    doubt = doubt.tries(Position(100, 896), Position(100, 1023)).died("d", "z")
    assert doubt.narrow == Position(100, 1023)
    assert tried()[:128] == [(n, n) for n in range(896, 1024)]


def doubt_passed(doubt: Doubt) -> int:
    return doubt.passed.sub + 1 if doubt.passed is not None else 0


def test_durable_records_are_not_tried_again() -> None:
    """A task may die after its piece is durable and before that is noted. The sinks know that it is durable."""
    doubt = Doubt(deaths=DEATHS, narrow=Position(100, 127))
    rig = Rig(aggregates, doubt, None)
    rig.sink.held[SHARD.shard_id] = Position(100, 120)
    asyncio.run(rig.read())
    assert rig.rows == [*(f"100/{sub}" for sub in range(121, 200)), *(f"101/{sub}" for sub in range(200))]
    alone = [first.sub for first, last in rig.notes.tried if first == last and first.sub < 200]
    assert alone == [0, *range(121, 128)]


def test_checkpoints_stand_behind_whole_aggregates_only() -> None:
    rig = Rig(aggregates, Doubt(deaths=DEATHS), None)
    asyncio.run(rig.read())
    assert rig.rows == [f"{number}/{sub}" for number in (100, 101) for sub in range(200)]
    assert rig.notes.tried[:2] == [
        (Position(100, 0).end_of_record, Position(101, 0).end_of_record),
        (Position(100, 0), Position(100, 127)),
    ]
    assert [position.sequence for position in rig.notes.checkpoints] == [100, 101]


def test_aggregates_of_another_shards_records_count_here_too() -> None:
    rig = Rig(lambda: [*aggregates(), *plain(300)[2:]], Doubt(deaths=DEATHS), None)
    asyncio.run(rig.read())
    assert len(rig.rows) == 698 and b"penstock_misplaced_aggregates_total 2.0" in rig.metrics.exposition()


def test_only_the_rest_of_an_aggregate_that_is_partly_durable_is_tried() -> None:
    rig = Rig(aggregates, Doubt(deaths=DEATHS, passed=Position(101, 149)), Position(100, 0))
    asyncio.run(rig.read())
    assert rig.rows == [f"101/{sub}" for sub in range(150, 200)]


def test_a_record_that_kills_alone_is_given_up_inside_an_aggregate_too() -> None:
    suspect = Position(100, 3)
    doubt = Doubt(deaths=DEATHS, suspect=suspect, alone=DEATHS, narrow=Position(100, 127))
    rig = Rig(aggregates, doubt, None)
    asyncio.run(rig.read())
    (letter,) = rig.letters
    assert letter.position == suspect
    assert isinstance(letter.outcome, Dead)
    assert (letter.outcome.kind, letter.outcome.payload) == ("killed", b"{}")
    assert "2 tasks died" in letter.outcome.reason
    assert len(rig.rows) == 400
    assert all(first == last for first, last in rig.notes.tried[1:129])
    assert rig.notes.freed == [Doubt()]


def test_one_whose_dead_letter_ended_a_task_leaves_its_payload_behind() -> None:
    doubt = Doubt(deaths=DEATHS, suspect=Position(100, 0), alone=(*DEATHS, Death("c", "z")), narrow=Position(100, 0))
    rig = Rig(lambda: plain(2), doubt, None)
    asyncio.run(rig.read())
    (letter,) = rig.letters
    assert isinstance(letter.outcome, Dead)
    assert letter.outcome.payload == b""


def test_a_reader_that_lost_the_lease_tries_nothing() -> None:
    rig = Rig(lambda: plain(3), Doubt(deaths=DEATHS), None)
    rig.notes.lost = True
    asyncio.run(rig.read())
    assert rig.rows == []


def test_sigterm_during_a_careful_reading_is_not_a_death() -> None:
    """The lease is released at once; records that are durable are passed, and the next task reads carefully."""
    rig = Rig(lambda: plain(300), Doubt(deaths=DEATHS), None)

    async def leaves() -> None:
        rig.judge.pause()
        reading = asyncio.ensure_future(rig.read())
        await rig.judge.begun()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(leaves())
    assert rig.notes.freed == [Doubt(deaths=DEATHS)]


@pytest.mark.parametrize(("error", "deaths"), [(Broken("why"), 3), (Fatal("the weights are gone"), 2)])
def test_an_error_that_may_be_a_records_doing_is_a_death(error: Exception, deaths: int) -> None:
    rig = Rig(lambda: plain(300), Doubt(deaths=DEATHS), None)

    async def fails() -> None:
        await rig.judge.begun()
        raise error

    async def read() -> None:
        rig.judge.pause()
        await rig.read(fails)

    with pytest.raises(type(error)):
        asyncio.run(read())
    (freed,) = rig.notes.freed
    assert len(freed.deaths) == deaths
    assert freed.narrow == (Position(227, 0) if deaths == 3 else None)


def until_past(monkeypatch: pytest.MonkeyPatch, dies: Callable[[Record], bool], most: int) -> tuple[list[Record], int]:
    """Careful readings of two aggregates and a plain record, until one succeeds. Returns its dead letters, and the
    deaths."""

    def look(record: Record) -> Record:
        if dies(record):
            raise RecursionError("nested too deeply")
        return aggregate_or_record(record)

    monkeypatch.setattr(reader, "aggregate_or_record", look)
    doubt = Doubt(deaths=DEATHS)
    for deaths in range(most + 1):
        rig = Rig(lambda: [*aggregates(), Record(SHARD.shard_id, b"{}", "key", "102", 0, 1)], doubt, None)
        try:
            asyncio.run(rig.read())
        except RecursionError:
            doubt = rig.notes.freed[-1]
            continue
        assert rig.notes.freed == [Doubt()]
        return rig.letters, deaths
    raise AssertionError(f"not past it after {most} more deaths: {doubt}")


@pytest.mark.parametrize("sequence", ["100", "101"])
def test_an_aggregate_that_kills_while_it_is_taken_apart_is_given_up_whole(
    monkeypatch: pytest.MonkeyPatch, sequence: str
) -> None:
    (letter,), deaths = until_past(monkeypatch, lambda record: record.sequence == sequence, 3)
    assert len(DEATHS) + deaths <= 5
    assert letter.position == Position(int(sequence), 0)
    assert isinstance(letter.outcome, Dead)
    assert letter.outcome.payload == aggregates()[0].data
    assert "nested too deeply" in letter.outcome.reason


def test_the_rest_of_an_aggregate_that_is_given_up_follows_its_durable_part() -> None:
    doubt = Doubt(
        deaths=DEATHS,
        passed=Position(100, 49),
        suspect=Position(100, 0).end_of_record,
        alone=DEATHS,
        apart=Position(101, 0).end_of_record,
    )
    rig = Rig(aggregates, doubt, None)
    asyncio.run(rig.read())
    assert rig.rows[:2] == ["100/50", "101/0"]
    assert len(rig.letters) == 1
    assert rig.notes.checkpoints == [Position(100, 50), Position(101, 199)]
