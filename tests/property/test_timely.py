"""Learning from time-outs: for any durations of records, batches soon end in time, and grow again if their size was not
the cause.

On replicas without processes, in simulated time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.events import ModelEvent, ReplicaReplaced, SafeCostLearned
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.host import ModelHost
from pipeline.replicas.process import DEPTH
from pipeline.replicas.safe_time import SafeTime
from pipeline.testing import FakeReplica, SimulatedLoop
from tests.support.hosts import record, settings

TIMEOUT_S = 1.0
MOST = 64

Seconds = Callable[[Sequence[bytes]], float]


class Source:
    """Batches as the stage forms them."""

    def __init__(self, seconds: Seconds, **more: Any) -> None:
        self.events: list[ModelEvent] = []
        self.sizes: list[int] = []
        self.done: list[Record] = []
        self._numbers = count()
        self.hanging: set[int] = set()
        given = replace(settings("Toy", timeout_s=TIMEOUT_S, **more), give_up_after_s=1e9)
        loop = asyncio.get_running_loop()
        link = partial(FakeReplica, seconds=seconds)
        self.host = ModelHost(given, on_event=self.events.append, link=link, outages=Outages(loop.time))

    async def batches(self, how_many: int) -> None:
        """This many batches, one replica's worth at a time."""
        left = iter(range(how_many))
        await asyncio.gather(*(self._work(left) for _ in range(self.host.slots)))

    async def _work(self, left: Iterator[int]) -> None:
        for _ in left:
            size = min(MOST, self.host.safe_cost or MOST)
            numbers = [next(self._numbers) for _ in range(size)]
            batch = [record(n, **({"hang": 1} if n in self.hanging else {})) for n in numbers]
            self.sizes.append(size)
            await self.host.settle(batch)
            self.done += batch

    @property
    def replaced(self) -> int:
        return sum(isinstance(event, ReplicaReplaced) for event in self.events)


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


def each(record_s: float, call_s: float = 0.0) -> Seconds:
    """A model with a record that hangs."""
    return lambda payloads: 1e9 if any(b'"hang"' in one for one in payloads) else call_s + record_s * len(payloads)


def test_a_model_that_cannot_do_a_full_batch_in_time_gets_smaller_ones() -> None:
    async def main() -> None:
        source = Source(each(0.1))
        await source.host.start()
        await source.batches(100)
        assert source.replaced <= DEPTH
        assert source.sizes[DEPTH:] == [8] * (100 - DEPTH)
        assert all(isinstance(record.outcome, Enriched) for record in source.done)
        assert any(isinstance(event, SafeCostLearned) and event.cost == 8 for event in source.events)
        await source.host.stop()

    simulated(main)


@pytest.mark.parametrize("number", [0, 1, 40, 63])
@pytest.mark.parametrize(("record_s", "call_s"), [(0.005, 0.0), (0.0001, 0.1)])
def test_a_record_that_hangs_does_not_make_batches_small_for_ever(number: int, record_s: float, call_s: float) -> None:
    async def main() -> None:
        source = Source(each(record_s, call_s))
        await source.host.start()
        source.hanging = {number}
        await source.batches(60)
        dead = [n for n, record in enumerate(source.done) if isinstance(record.outcome, Dead)]
        assert len(dead) == 1
        assert source.host.safe_cost == 0 and source.sizes[-1] == MOST
        await source.host.stop()

    simulated(main)


@hypothesis_settings(max_examples=12)
@given(st.floats(0.001, 0.75), st.floats(0.0, 0.2), st.integers(1, 3))
def test_time_outs_end_and_work_continues_for_any_durations(record_s: float, call_s: float, replicas: int) -> None:
    async def main() -> None:
        source = Source(each(record_s, call_s), replicas=replicas)
        await source.host.start()
        await source.batches(40)
        early = source.replaced
        assert early <= 7 * DEPTH * replicas
        await source.batches(150)
        assert source.replaced == early
        fits = (TIMEOUT_S - call_s) / record_s
        assert source.sizes[-1] >= min(MOST, max(1, int(fits * 0.4)))
        await source.host.stop()

    simulated(main)


def test_the_time_of_the_example_makes_first_batches_in_time() -> None:
    safe = SafeTime(TIMEOUT_S)
    safe.expect(0.1, MOST)
    assert safe.limit == 8
    for _ in range(100):
        safe.passed(safe.limit, safe.limit, 0.1 * safe.limit)
    assert safe.limit == 8
    quick = SafeTime(TIMEOUT_S)
    quick.expect(0.1, MOST)
    for _ in range(200):
        quick.passed(min(MOST, quick.limit or MOST), min(MOST, quick.limit or MOST), 0.1)
    assert quick.limit == 0


@pytest.mark.parametrize("place", [0, 5, 63])
def test_one_guilty_record_takes_the_halving_back_at_once_unless_the_others_are_too_long(place: int) -> None:
    for record_s, limit in ((0.005, 0), (0.1, 8)):
        safe = SafeTime(TIMEOUT_S)
        safe.timed_out(MOST, MOST)
        assert safe.limit == MOST // 2
        for number in range(MOST):
            if number == place:
                safe.timed_out(1, 1)
            else:
                safe.passed(1, 1, record_s)
        assert safe.limit == limit


def test_a_model_that_is_in_time_learns_nothing() -> None:
    safe = SafeTime(TIMEOUT_S)
    safe.expect(0.01, MOST)
    safe.passed(MOST, MOST, 0.7)
    safe.timed_out(1, 1)
    assert safe.limit == 0


told = st.tuples(st.booleans(), st.integers(1, 64), st.integers(1, 1000), st.floats(0, 1))


@given(st.lists(told, max_size=60))
def test_nothing_is_remembered_for_ever(history: list[tuple[bool, int, int, float]]) -> None:
    safe = SafeTime(TIMEOUT_S)
    for passed, records, cost, seconds in history:
        if passed:
            safe.passed(records, cost, seconds)
        else:
            safe.timed_out(records, cost)
            assert records == 1 or 1 <= safe.limit <= max(1, cost // 2)
    for _ in range(500):
        safe.passed(2 if safe.limit > 1 else 1, safe.limit, 0.0)
    assert safe.limit == 0
