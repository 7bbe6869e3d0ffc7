"""The decisions of careful readings: a shard of numbers, tasks that die of some, and the note that they share. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.config.values import LEAST_TASKS
from consumer.poison.doubt import HINDERED, PIECE, Death, Doubt, Skip, parsed, piece_after, written
from pipeline.record import LAST_SUB, Position

LAYERS = ("jvm", "protocol", "look", "admitted", "row")
"""Where a record kills: while KCL reads ahead, before it is taken, when the aggregate is read, when its user records
are admitted, or when it has become a row."""

PAGE = 512


@dataclass
class Shard:
    """``killers``: which records kill, and where. ``flush``: number of records in a file."""

    records: int
    killers: dict[int, str]
    flush: int
    message: int
    give_up_after: int
    piece_s: float = 0.0
    far: bool = False
    durable: int = 0
    noted: Doubt = field(default_factory=Doubt)
    tasks: int = 0
    over: dict[int, int] = field(default_factory=dict)
    """By killer: the tasks that died of it."""
    given_up: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.positions = [Position(number, 0) for number in range(self.records)]
        self.ends = [position.end_of_record for position in self.positions]

    def at(self, number: int) -> Position:
        return self.positions[number]

    def task(self) -> bool:
        """Run one task until it dies; return True if it has read everything."""
        self.tasks += 1
        me = f"task-{self.tasks}"
        doubt = parsed(written(self.noted)).begun(me)
        self.noted = doubt
        if doubt.doubtful:
            if (after := self.carefully(doubt)) is None:
                return False
            self.noted = doubt = after
        return self.as_ever(doubt, me)

    def as_ever(self, doubt: Doubt, me: str) -> bool:
        at = self.durable
        place = doubt.read if doubt.watched else None
        past, enough = 0, self.records
        while at < self.records:
            if self.durable > enough:
                doubt, enough = doubt.in_order(), self.records
            message = range(at, min(self.records, at + self.message))
            ahead = range(at, min(self.records, at + 5 * self.message))
            if self.kills(ahead, "jvm"):
                self.noted = parsed(written(self.noted)).died(me, "the JVM ended")
                return False
            if self.kills(message, "protocol", "look"):
                return False
            if doubt.watched or self.far:
                doubt = doubt.reads(self.at(message[-1]))
                doubt = doubt.meets(self.at(message[-1])) if doubt.watched else doubt
                self.noted = doubt
            past += place is not None and message[-1] > place.sequence
            enough = message[-1] if past > 6 and enough == self.records else enough
            if self.kills(message, "admitted"):
                return False
            at = message[-1] + 1
            if at - self.durable >= self.flush or at == self.records:
                if self.kills(range(self.durable, at), "row"):
                    return False
                self.durable = at
        self.noted = doubt.in_order().ended(me)
        return True

    def carefully(self, doubt: Doubt) -> Doubt | None:
        beyond, piece, page = 0, PIECE, self.durable
        while self.durable < self.records and not doubt.past(beyond, 5 * self.message):
            ahead = self.positions[self.durable :]
            if self.durable >= page:
                page = min(self.records, page + (1 if doubt.opened_apart(ahead[0]) else PAGE))
                if (after := self.opens(doubt, range(self.durable, page))) is None:
                    return None
                doubt = after
            condemned = doubt.gives_up(ahead[0], self.give_up_after) or self.durable in self.given_up
            count = 1 if self.durable in self.given_up else doubt.together(ahead[: page - self.durable], piece)
            piece = piece_after(piece, self.piece_s)
            tried = [position.sequence for position in ahead[:count]]
            doubt = doubt.tries(ahead[0], ahead[count - 1])
            self.noted = doubt
            if condemned:
                assert count == 1
                self.given_up.add(tried[0])
            elif self.kills(tried, "admitted", "row"):
                return None
            beyond += sum(doubt.read is None or self.at(each) > doubt.read for each in tried)
            self.durable += count
            doubt = doubt.passes(self.at(self.durable - 1).end_of_record)
            self.noted = doubt
        return doubt.in_order()

    def opens(self, doubt: Doubt, numbers: range) -> Doubt | None:
        """Each record stands for an aggregate, and for its user records."""
        ends = self.ends[numbers.start : numbers.stop]
        if doubt.gives_up(ends[-1], self.give_up_after):
            self.given_up.add(numbers[-1])
        doubt = doubt.tries(ends[0], ends[-1])
        self.noted = doubt
        left = [each for each in numbers if each not in self.given_up]
        return None if self.kills(left, "look") else doubt

    def kills(self, numbers: Sequence[int], *layers: str) -> bool:
        """Whether one of the records kills the task in one of these layers. The first one that does is noted."""
        deadly = (number for number, layer in self.killers.items() if layer in layers and number in numbers)
        if (first := min(deadly, default=None)) is None:
            return False
        self.over[first] = self.over.get(first, 0) + 1
        return True


@settings(max_examples=200, deadline=None)
@given(
    records=st.integers(1, 700),
    killers=st.dictionaries(st.integers(0, 699), st.sampled_from(LAYERS), max_size=4),
    flush=st.sampled_from([1, 20, 1000]),
    message=st.sampled_from([1, 7, 100]),
    give_up_after=st.integers(LEAST_TASKS, 9),
    far=st.booleans(),
)
def test_no_record_stops_a_shard_for_more_than_the_configured_tasks(
    records: int, killers: dict[int, str], flush: int, message: int, give_up_after: int, far: bool
) -> None:
    shard = Shard(records, killers, flush, message, give_up_after, far=far)
    while not shard.task():
        assert shard.tasks <= give_up_after * (len(killers) + 1)
    assert all(deaths <= give_up_after for deaths in shard.over.values()), shard.over
    assert shard.given_up <= {number for number, layer in killers.items() if layer not in {"jvm", "protocol"}}
    assert shard.durable == records


WRITE_S, FLUSH_S, RECORD_S, START_S = 0.010, 0.050, 0.000_05, 5.0
GIANT, GIANTS = 170_000, 3


class Ahead:
    """Positions in an aggregate, made when they are needed."""

    def __init__(self, sequence: int, begin: int, end: int) -> None:
        self.sequence, self.begin, self.end = sequence, begin, end

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, place: int) -> Position:
        return Position(self.sequence, self.begin + place)


def read_by_itself(kill_after_s: list[float]) -> tuple[float, Doubt]:
    """The time to read the largest aggregates carefully, with tasks that are killed after every ``lives`` seconds."""
    deaths = (Death("a", "killed"), Death("b", "killed"))
    doubt, seconds, at = Doubt(deaths=deaths, met=Position(1, 20_000)), 0.0, Position(1, 0)
    for number, left_s in enumerate([*kill_after_s, float("inf")]):
        doubt, piece, begun_s = doubt.begun(f"task-{number}"), PIECE, seconds
        while at.sequence <= GIANTS:
            ahead = Ahead(at.sequence, at.sub, min(at.sub + piece, GIANT))
            count = doubt.together(cast("Sequence[Position]", ahead), piece)
            doubt = doubt.tries(ahead[0], ahead[count - 1])
            took_s = (2 * WRITE_S if count > 1 else WRITE_S) + FLUSH_S + count * RECORD_S
            if seconds + took_s > begun_s + left_s:
                break
            seconds += took_s
            piece = piece_after(piece, took_s) if count == piece else piece
            doubt = doubt.passes(ahead[count - 1])
            at = Position(at.sequence, at.sub + count) if at.sub + count < GIANT else Position(at.sequence + 1, 0)
        seconds += START_S
    return seconds, doubt


def test_half_a_million_records_are_read_carefully_in_a_minute_or_two() -> None:
    """Without deaths it is as fast as possible; each death costs at most a few hundred flushes."""
    quiet_s, doubt = read_by_itself([])
    assert quiet_s < 60 and doubt.narrow is None
    stormy_s, _ = read_by_itself([1.0, 9.0, 3.0, 11.0, 7.0, 2.0])
    assert stormy_s < 150


POSITIONS = st.builds(Position, st.integers(0, 50), st.sampled_from([0, 3, LAST_SUB]))


def lives(doubt: Doubt, happens: str, number: int) -> Doubt:
    if happens in "de":
        return doubt.in_order() if happens == "d" else doubt.hinders()
    if happens == "f":
        return doubt.passes(Position(number, 0))
    if happens == "a":
        return doubt.begun(f"w{number}")
    return doubt.ended(doubt.by) if happens == "b" else doubt.died(doubt.by, "x")


@given(st.lists(POSITIONS, max_size=4, unique=True), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_an_operators_request_stays_until_its_record_is_passed(skips: list[Position], life: str) -> None:
    doubt = Doubt()
    for at in skips:
        doubt = doubt.with_skip(Skip(at, f"why {at}"))
    for number, happens in enumerate(life):
        before = doubt
        doubt = lives(doubt, happens, number)
        kept = [skip for skip in before.skips if happens != "f" or skip.at.end_of_record > Position(number, 0)]
        assert doubt.skips == tuple(kept)
        assert parsed(written(doubt)) == doubt
        assert doubt.doubtful == ((bool(doubt.skips) or len(doubt.deaths) >= 2) and doubt.hindered < HINDERED)


@given(st.lists(POSITIONS, min_size=1, max_size=3), st.integers(1, 300), st.integers(0, 40))
def test_a_record_to_be_passed_over_is_never_tried_with_another(skips: list[Position], piece: int, begin: int) -> None:
    doubt = Doubt()
    for at in skips:
        doubt = doubt.with_skip(Skip(at, ""))
    ahead = [Position(n, 0) for n in range(begin, 60)]
    for count in (doubt.together(ahead, piece), doubt.together_whole(ahead)):
        assert 1 <= count <= len(ahead)
        if count > 1:
            assert not any(at.end_of_record in skips for at in ahead[:count])
    if doubt.together(ahead, piece) > 1:
        assert not any(doubt.skipped(at) for at in ahead[: doubt.together(ahead, piece)])
