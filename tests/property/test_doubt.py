"""A way past anything, decided purely: a shard of numbers, tasks that die of some, and the note between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.config.values import LEAST_TASKS
from consumer.poison.doubt import PIECE, Doubt, parsed, piece_after, written
from pipeline.record import Position

LAYERS = ("jvm", "decode", "admitted", "row")
"""Where a record kills: while KCL reads ahead, before or once it is taken, or only when it has become a row."""


@dataclass
class Shard:
    """``killers``: which records kill whom they meet, and where. ``flush`` records make a file."""

    records: int
    killers: dict[int, str]
    flush: int
    message: int
    give_up_after: int
    piece_s: float = 0.0
    durable: int = 0
    note: str = ""
    tasks: int = 0
    over: dict[int, int] = field(default_factory=dict)
    """By killer: the tasks that died of it."""
    given_up: set[int] = field(default_factory=set)

    def at(self, number: int) -> Position:
        return Position(number, 0)

    def task(self) -> bool:
        """One task from its start to its death; true if it has read everything."""
        self.tasks += 1
        me = f"task-{self.tasks}"
        doubt = parsed(self.note).begun(me)
        self.note = written(doubt)
        if doubt.doubtful:
            if (after := self.carefully(doubt)) is None:
                return False
            self.note = written(doubt := after)
        return self.as_ever(doubt, me)

    def as_ever(self, doubt: Doubt, me: str) -> bool:
        at = self.durable
        while at < self.records:
            message = range(at, min(self.records, at + self.message))
            ahead = range(at, min(self.records, at + 5 * self.message))
            if any(self.kills(each, "jvm") for each in ahead):
                self.note = written(parsed(self.note).died(me, "the JVM ended"))
                return False
            if any(self.kills(each, "decode") for each in message):
                return False
            if doubt.watched:
                doubt = doubt.reads(self.at(message[-1]))
                self.note = written(doubt)
            if any(self.kills(each, "admitted") for each in message):
                return False
            at = message[-1] + 1
            if at - self.durable >= self.flush or at == self.records:
                if any(self.kills(each, "row") for each in range(self.durable, at)):
                    return False
                self.durable = at
        self.note = written(doubt.in_order().ended(me))
        return True

    def carefully(self, doubt: Doubt) -> Doubt | None:
        beyond, piece = 0, PIECE
        while self.durable < self.records and not doubt.past(beyond, 5 * self.message):
            ahead = [self.at(each) for each in range(self.durable, self.records)]
            count = doubt.together(ahead, piece)
            piece = piece_after(piece, self.piece_s)
            tried = [position.sequence for position in ahead[:count]]
            condemned = doubt.condemned(ahead[0], self.give_up_after)
            doubt = doubt.tries(ahead[0], ahead[count - 1])
            self.note = written(doubt)
            if condemned:
                assert count == 1
                self.given_up.add(tried[0])
            elif any(self.kills(each, layer) for each in tried for layer in LAYERS if layer != "jvm"):
                return None
            beyond += sum(doubt.read is None or self.at(each) > doubt.read for each in tried)
            self.durable += count
            doubt = doubt.passes(self.at(self.durable - 1))
            self.note = written(doubt)
        return doubt.in_order()

    def kills(self, number: int, layer: str) -> bool:
        if self.killers.get(number) != layer:
            return False
        self.over[number] = self.over.get(number, 0) + 1
        return True


@settings(max_examples=400, deadline=None)
@given(
    records=st.integers(1, 700),
    killers=st.dictionaries(st.integers(0, 699), st.sampled_from(LAYERS), max_size=4),
    flush=st.sampled_from([1, 20, 1000]),
    message=st.sampled_from([1, 7, 100]),
    give_up_after=st.integers(LEAST_TASKS, 9),
)
def test_no_record_stops_a_shard_for_more_than_so_many_tasks(
    records: int, killers: dict[int, str], flush: int, message: int, give_up_after: int
) -> None:
    shard = Shard(records, killers, flush, message, give_up_after)
    while not shard.task():
        assert shard.tasks <= give_up_after * (len(killers) + 1)
    assert all(deaths <= give_up_after for deaths in shard.over.values()), shard.over
    assert shard.given_up <= {number for number, layer in killers.items() if layer != "jvm"}
    assert shard.durable == records
