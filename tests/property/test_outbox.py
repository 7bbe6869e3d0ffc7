"""For any refusals and any order of calls: nothing is lost, the order of each key is kept, and durable is
never ahead."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.record import Position
from pipeline.sinks.put_queue import OrderedPutQueue, QueuedRow


@dataclass
class Sent:
    """One record as it was put, and whether its row arrived."""

    position: Position
    key: str | None
    size: int
    arrived: bool = False


@dataclass
class World:
    """An outbox, its stream, and a model of what it must do."""

    put_queue: OrderedPutQueue = field(default_factory=lambda: OrderedPutQueue(request_rows=4, request_bytes=40))
    records: list[Sent] = field(default_factory=list)
    arrived: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def put(self, key: str | None, size: int) -> None:
        number = len(self.records)
        self.records.append(Sent(Position(number, 0), key, size))
        data = str(number).encode().ljust(size, b" ")
        self.put_queue.put(Position(number, 0), None if key is None else (key, data))

    def answer(self, request: list[QueuedRow], accepted: list[bool]) -> None:
        assert len({row.key for row in request}) == len(request) <= 4
        assert len(request) == 1 or sum(row.size_bytes for row in request) <= 40
        for row, was_accepted in zip(request, accepted, strict=True):
            number = int(row.data)
            assert self.records[number].key == row.key
            earlier = [each for each in self.records[:number] if each.key == row.key]
            assert all(each.arrived for each in earlier), "a row passed an earlier one of its key"
            if was_accepted:
                self.records[number].arrived = True
                self.arrived[row.key].append(number)
        self.put_queue.settle(request, accepted)

    def check(self) -> None:
        assert self.put_queue.durable == self.durable()
        left = [each for each in self.records if each.key is not None and not each.arrived]
        assert len(self.put_queue) == len(left)
        assert self.put_queue.bytes == sum(max(each.size, len(str(each.position.sequence))) + 1 for each in left)

    def durable(self) -> Position | None:
        found = None
        for each in self.records:
            if each.key is not None and not each.arrived:
                break
            found = each.position
        return found


class Put(NamedTuple):
    key: str | None
    size: int


class Call(NamedTuple):
    accepted: list[bool]


puts = st.builds(Put, st.none() | st.sampled_from("abcdef"), st.integers(1, 30))
calls = st.builds(Call, st.lists(st.booleans(), min_size=4, max_size=4))


@settings(max_examples=150, deadline=None)
@given(st.lists(puts | calls, max_size=120))
def test_every_row_arrives_once_in_order_per_key_and_durable_is_exact(script: list[Put | Call]) -> None:
    world = World()
    for step in script:
        if isinstance(step, Call):
            request = world.put_queue.take()
            world.answer(request, step.accepted[: len(request)])
        else:
            world.put(*step)
        world.check()
    while request := world.put_queue.take():
        world.answer(request, [True] * len(request))
        world.check()
    assert all(each.arrived for each in world.records if each.key is not None)
    assert all(numbers == sorted(set(numbers)) for numbers in world.arrived.values())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(puts, puts, calls), min_size=1, max_size=30))
def test_new_records_do_not_change_a_call_in_progress(script: list[tuple[Put, Put, Call]]) -> None:
    world = World()
    for before, during, call in script:
        world.put(*before)
        request = world.put_queue.take()
        world.put(*during)
        world.answer(request, call.accepted[: len(request)])
        world.check()
    assert len(world.records) == 2 * len(script)
