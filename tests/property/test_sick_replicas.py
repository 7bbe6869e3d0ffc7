"""For any way in which a replica breaks: no healthy record is a dead letter, and bad records restart no replica."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from pipeline.events import DeadLettered, ReplicaReplaced, Retried
from pipeline.model import Model
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.host import ModelHost
from pipeline.testing import FakeReplica, SimulatedLoop
from pipeline.testing.model_settings import host_settings
from tests.support.hosts import record

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "6")) % 100 or 100
GARBAGE = 0.05


class Sick(Model):
    """Breaks in its own way. Every new replica starts healthy."""

    output_schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])

    def load(self, context: Any) -> None:
        self.options = context.options
        self.calls = 0
        self.spoilt = False

    def predict(self, items: Sequence[Any]) -> list[Any]:
        self.calls += 1
        self.spoilt = self.fails() or self.spoilt
        if self.spoilt:
            return self.misbehave(items)
        if any(item.get("bad") for item in items):
            self.spoilt = self.options["way"] == "poison"
            raise ValueError("a bad record")
        return [{"n": item["n"], "x": 0.5} for item in items]

    def fails(self) -> bool:
        return self.options["way"] in {"after", "nan after"} and self.calls > self.options["calls"]

    def misbehave(self, items: Sequence[Any]) -> list[Any]:
        if self.options["way"] == "nan after":
            return [{"n": item["n"], "x": float("nan")} for item in items]
        raise RuntimeError("nothing goes any more")


class EveryOther(Sick):
    def fails(self) -> bool:
        self.spoilt = False
        return self.calls % 2 == 0


class WithExample(Sick):
    def example(self) -> Any:
        return {"n": 0}


def live(
    model: str, records: list[Record], seed: int, *, retries: int = 1, replicas: int = 1, size: int = 16, **options: Any
) -> list[Any]:
    """Batches of up to ``size``, two per replica at a time."""
    events: list[Any] = []
    dice = random.Random(seed)
    waiting = list(records)

    async def judge(host: ModelHost) -> None:
        while waiting:
            count = dice.randint(1, size)
            batch, waiting[:count] = waiting[:count], []
            await host.settle(batch)

    async def main() -> None:
        settings = host_settings(
            f"{__name__}:{model}", "1", replicas, 1, retries=retries, options=options, not_finite="reject"
        )
        link = partial(FakeReplica, seconds=lambda payloads: dice.random())
        outages = Outages(asyncio.get_running_loop().time)
        host = ModelHost(settings, on_event=events.append, link=link, outages=outages)
        await host.start()
        await asyncio.gather(*(judge(host) for _ in range(host.slots)))
        await host.stop()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())
    return events


def mixed(count: int, seed: int, share: float = GARBAGE) -> list[Record]:
    dice = random.Random(seed)
    return [record(n, **({"bad": True} if dice.random() < share else {})) for n in range(count)]


def expect_only_the_bad_dead(records: Sequence[Record]) -> None:
    data = {id(each): outcome for each in records if (outcome := each.outcome)}
    assert len(data) == len(records)
    for n, each in enumerate(records):
        if isinstance(each.outcome, Enriched):
            assert each.outcome.table.column("n")[each.outcome.row].as_py() == n
        else:
            assert isinstance(each.outcome, Dead)
            assert b'"bad"' in each.outcome.payload


@pytest.mark.parametrize("model", ["Sick", "WithExample"])
@pytest.mark.parametrize("way", ["after", "nan after", "poison"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_healthy_record_dies_of_a_sick_replica(model: str, way: str, seed: int) -> None:
    dice = random.Random(seed)
    records = mixed(120, seed, 0.02)
    live(model, records, seed, replicas=dice.randint(1, 3), way=way, calls=dice.randint(4, 12))
    expect_only_the_bad_dead(records)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_healthy_record_dies_where_every_other_call_fails(seed: int) -> None:
    records = mixed(120, seed, 0.0)
    live("EveryOther", records, seed, replicas=seed % 2 + 1, way="every other")
    expect_only_the_bad_dead(records)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_garbage_restarts_nothing_once_something_has_passed(seed: int) -> None:
    records = [record(0), *mixed(400, seed)[1:]]
    events = live("Sick", records, seed, way="well", size=64)
    expect_only_the_bad_dead(records)
    restarts = [event for event in events if isinstance(event, ReplicaReplaced)]
    assert len(restarts) <= 1, restarts


def test_a_bad_release_costs_few_restarts() -> None:
    """Nothing has ever passed: new replicas are tried, and then the model is considered bad."""
    records = mixed(200, 1, share=1.1)
    events = live("Sick", records, 1, way="well")
    assert all(isinstance(each.outcome, Dead) for each in records)
    assert len([event for event in events if isinstance(event, ReplicaReplaced)]) <= 8
    assert sum(isinstance(event, DeadLettered) for event in events) == 200


@pytest.mark.parametrize("place", range(0, 64, 7))
def test_one_bad_record_costs_two_calls_beside_its_search(place: int) -> None:
    """log2(64) + 2 for the search, the retry, and two."""
    records = [record(n, **({"bad": True} if n == place + 1 else {})) for n in range(65)]
    events: list[Any] = []

    async def main() -> None:
        settings = host_settings(f"{__name__}:Sick", options={"way": "well"})
        host = ModelHost(settings, on_event=events.append, link=FakeReplica)
        await host.start()
        await host.settle(records[:1])
        await host.settle(records[1:])
        await host.stop()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())
    expect_only_the_bad_dead(records)
    assert sum(isinstance(event, Retried) for event in events) <= 6 + 2 + 1 + 2
