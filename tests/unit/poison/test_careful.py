"""A careful reader with fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from consumer.leases.leases import Lease
from consumer.poison import held_leases, reader
from consumer.poison.doubt import HINDERED, PIECE, Death, Doubt, Skip, piece_after
from consumer.poison.held_leases import Held, Hindered
from consumer.poison.notes import HOLDER, Noted
from consumer.poison.reader import Page, PoisonReader
from consumer.testing import aggregate
from pipeline import background
from pipeline.aggregate import aggregate_or_record
from pipeline.batching.batcher import Batcher
from pipeline.errors import Broken, Fatal
from pipeline.flow.bounds import Bounds
from pipeline.flow.misplaced import Misplaced
from pipeline.hash_keys import HashRange, hash_of
from pipeline.metrics import Metrics
from pipeline.record import LAST_SUB, Dead, Position, Record, Shard
from pipeline.stage import Stage
from pipeline.testing.fake_ports import FakeJudge, FakeSink

SHARD = Shard("events", 1, "shardId-000000000000")
DEATHS = (Death("a", "x"), Death("b", "y"))


class FakeNotes:
    """A lease that is held until ``lost``. ``refuse`` may raise before each step."""

    def __init__(self) -> None:
        self.lost = False
        self.refuse: Callable[[Doubt], None] = lambda doubt: None
        self.deaf = 0
        self.on_step: Callable[[], None] = lambda: None
        self.checkpoints: list[Position] = []
        self.tried: list[tuple[Position, Position]] = []
        self.freed: list[Doubt] = []

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        return not self.lost

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        self.refuse(doubt)
        self.on_step()
        if doubt.first is not None and doubt.last is not None:
            self.tried.append((doubt.first, doubt.last))
        self.checkpoints += [checkpoint] if checkpoint else []
        return not self.lost

    def keep(self, shard_id: str, holder: str) -> bool:
        return not self.lost

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        self.deaf -= 1
        if self.deaf >= 0:
            raise OSError("no route to the lease table")
        self.freed.append(doubt)
        return True


class FakePages:
    def __init__(self, records: Callable[[], Sequence[Record]]) -> None:
        self._records = records

    def after(self, shard_id: str, position: Position | None) -> Page:
        after = position.sequence if position else 0
        return Page([record for record in self._records() if int(record.sequence) > after], True)


class Rig:
    def __init__(self, records: Callable[[], Sequence[Record]], doubt: Doubt, checkpoint: Position | None) -> None:
        self.judge, self.sink, self.notes = FakeJudge(), FakeSink(), FakeNotes()
        self.noted = Noted(Lease(SHARD.shard_id, "", 1, checkpoint, "", (), (), ""), "")
        self.doubt = doubt
        self.records = records
        self.metrics = Metrics()
        self.seconds = 0.0
        self.slow_s = 0.0
        """Seconds that each look at the clock takes, and so each piece."""
        self.notes.on_step = self.wait
        self.step_s = 0.0

    async def within(self, shard_id: str) -> HashRange | None:
        return HashRange(0, hash_of("key") - 1)

    def careful(self, stage: Stage) -> PoisonReader:
        return PoisonReader(
            stage,
            self.notes,
            FakePages(self.records),
            lambda shard_id: SHARD,
            "me",
            give_up_after=5,
            reads_ahead=1000,
            on_event=lambda event: None,
            call=self.call,
            clock=self.clock,
            sleep=self.sleep,
        )

    def clock(self) -> float:
        self.seconds += self.slow_s
        return self.seconds

    def wait(self) -> None:
        self.seconds += self.step_s

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def call(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    async def read(self, failing: background.Work | None = None) -> None:
        batcher = Batcher(max_records=1000, max_cost=0, linger_s=0.0)
        misplaced = Misplaced(self.metrics.records, self.within)
        stage = Stage(self.judge, batcher, [self.sink], Bounds(10_000, 1 << 30), self.metrics, misplaced=misplaced)
        running = asyncio.ensure_future(stage.run())
        held = Held(SHARD.shard_id, self.noted.lease.checkpoint, self.doubt.begun(f"{HOLDER}me"))
        try:
            await self.careful(stage).read(held, failing or asyncio.Event().wait)
        finally:
            running.cancel()

    @property
    def rows(self) -> list[str]:
        return [str(record.position) for record in self.sink.rows.get(SHARD.shard_id, ())]

    @property
    def letters(self) -> list[Record]:
        return [record for record in self.sink.rows.get(SHARD.shard_id, ()) if isinstance(record.outcome, Dead)]


def plain(count: int) -> list[Record]:
    return [Record(SHARD.shard_id, b"{}", "key", str(100 + n), 0, 1) for n in range(count)]


def aggregates() -> list[Record]:
    data = aggregate([b"{}"] * 200)
    return [Record(SHARD.shard_id, data, None, str(number), 0, 1) for number in (100, 101)]


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


# -- an aggregate that kills while it is taken apart


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


# -- what fails of itself


def fails(*_: object) -> Any:
    raise RuntimeError("GetRecords answered with what it never had")


def test_a_read_that_fails_names_no_record_and_gives_way_to_kcl() -> None:
    doubt = Doubt(deaths=DEATHS)
    for _ in range(HINDERED):
        assert doubt.doubtful
        rig = Rig(fails, doubt, None)
        with pytest.raises(Hindered, match="GetRecords"):
            asyncio.run(rig.read())
        (doubt,) = rig.notes.freed
    assert doubt == Doubt(deaths=DEATHS, hindered=HINDERED)
    assert doubt.watched and not doubt.doubtful
    again = doubt.begun("kcl").died("kcl", "the JVM ended")
    assert again.doubtful and again.suspect is None


@pytest.mark.parametrize("of_a_try", [True, False])
def test_a_note_that_cannot_be_written_blames_no_record(of_a_try: bool) -> None:
    """Also not a record that is tried alone, and was tried alone before. Records that are durable are passed."""
    suspect = Position(100, 0)
    doubt = Doubt(deaths=DEATHS, suspect=suspect, alone=DEATHS[:1], narrow=Position(102, 0))
    rig = Rig(lambda: plain(3), doubt, None)
    rig.notes.refuse = lambda doubt: fails() if (doubt.first is not None) == of_a_try else None
    with pytest.raises(Hindered):
        asyncio.run(rig.read())
    (freed,) = rig.notes.freed
    passed = doubt if of_a_try else doubt.passes(Position(102, 0).end_of_record)
    assert freed == passed.hinders()
    assert freed.deaths == DEATHS
    assert rig.letters == []


def test_progress_takes_hindrances_back() -> None:
    assert Doubt(deaths=DEATHS, hindered=1).passes(Position(1, 0)).hindered == 0


def test_a_task_that_dies_as_it_reads_is_hindered_too() -> None:
    """The task was killed before it had a record: by the answer itself, or by another record."""
    doubt = Doubt(deaths=DEATHS)
    for task in range(HINDERED):
        doubt = doubt.begun(f"careful-{task}")
    assert doubt.begun("kcl").doubtful is False


def test_a_lease_is_given_up_although_the_table_does_not_answer_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_leases, "FREE", replace(held_leases.FREE, first_s=0.0))
    rig = Rig(lambda: plain(3), Doubt(deaths=DEATHS), None)
    rig.notes.deaf = 3
    asyncio.run(rig.read())
    assert rig.notes.freed == [Doubt()]


# -- what an operator passes over


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
