"""A careful reading that itself fails: the task goes on, and in the end KCL reads the shard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from consumer.leases.leases import Lease
from consumer.poison.careful_readings import CarefulReadings
from consumer.poison.doubt import HINDERED, Death, Doubt, written
from consumer.poison.notes import LeaseNotes, Noted
from consumer.poison.reader import Page, PoisonReader
from consumer.poison.session_notes import Doubts
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Position, Shard
from pipeline.stage import Stage
from pipeline.testing.fake_ports import FakeJudge, FakeSink

SHARD = Shard("events", 1, "shardId-000000000000")
DEATHS = (Death("a", "x"), Death("b", "y"))


class Notes:
    """One lease and its note. ``broken`` is called before each use, with the name of the step."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        self.text = written(Doubt(deaths=DEATHS))
        self._broken = broken

    def all(self) -> Iterator[Noted]:
        self._broken("all")
        yield self.read(SHARD.shard_id)

    def read(self, shard_id: str) -> Noted:
        self._broken("read")
        return Noted(Lease(shard_id, "", 1, Position(99, 0), "", (), (), ""), self.text)

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool:
        self.text = written(doubt)
        return True

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        self._broken("hold")
        return self.write("", "", doubt)

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        self._broken("step")
        return self.write("", "", doubt)

    def keep(self, shard_id: str, holder: str) -> bool:
        return True

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        return self.write("", "", doubt)

    def after(self, shard_id: str, position: Position | None) -> Page:
        self._broken("pages")
        return Page([], True)


async def starts(notes: Notes) -> bool:
    """A task finds a shard, reads it carefully, and then gets it from KCL. Returns whether it may read it as usual."""
    batcher = Batcher(max_records=10, max_cost=0, linger_s=0.0)
    stage = Stage(FakeJudge(), batcher, [FakeSink()], Bounds(100, 1 << 20), Metrics())
    running = asyncio.ensure_future(stage.run())
    doubts = Doubts(notes, "me", lambda shard_id: None)
    past = CarefulReadings(cast(LeaseNotes, notes), doubts, failover_s=0.0)
    careful = PoisonReader(
        stage, notes, notes, lambda shard_id: SHARD, "me", give_up_after=5, reads_ahead=10, on_event=lambda event: None
    )
    try:
        await past.at_start(careful, asyncio.Event().wait)
        assert past.busy == set()
        return await doubts.begin(SHARD.shard_id) is not None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("what", ["pages", "hold"])
def test_a_shard_that_cannot_be_read_carefully_is_kcls_after_a_few_tries(what: str) -> None:
    def broken(name: str) -> None:
        if name == what:
            raise AttributeError("an answer without its fields")

    notes = Notes(broken)
    tries = [asyncio.run(starts(notes)) for _ in range(HINDERED)]
    assert tries == [False] * (HINDERED - 1) + [True]
    assert notes.text == written(Doubt(by="me", deaths=DEATHS, hindered=HINDERED))


def test_one_that_can_be_read_is_in_order_at_once() -> None:
    notes = Notes(lambda name: None)
    assert asyncio.run(starts(notes))
    assert notes.text == written(Doubt(by="me"))


@pytest.mark.parametrize("error", [ValueError("a lease of a kind that nobody knows"), KeyError("leaseKey")])
def test_leases_that_cannot_be_read_stop_no_task(error: Exception) -> None:
    def broken(name: str) -> Any:
        raise error

    assert asyncio.run(starts(Notes(broken)))
