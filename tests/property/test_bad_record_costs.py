"""The cost of bad records on a healthy replica: a bounded number of calls and no model load, for every kind
of error."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from pipeline.events import ReplicaReplaced
from pipeline.model import Model, Reject
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.host import ModelHost
from pipeline.replicas.witnesses import FRESH_FAILURES
from pipeline.testing import FakeReplica, SimulatedLoop
from pipeline.testing.model_settings import host_settings
from tests.support.hosts import record

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "3")) % 100 or 100
KINDS = {
    "contract": "contract",
    "not_finite": "not_finite",
    "decode": "decode",
    "undecodable": "decode",
    "exception": "exception",
    "rejected": "rejected",
    "refusing": "rejected",
}
"""The error of a record, and the kind of dead letter that it becomes."""


class Plain(Model):
    output_schema = pa.schema([("n", pa.int32()), ("x", pa.float64())])
    spreads = False

    def decode(self, data: bytes) -> Any:
        item = super().decode(data)
        if item.get("bad") == "decode":
            raise KeyError("decode")
        if item.get("bad") == "undecodable":
            raise Reject("not for us")
        return item

    def predict(self, items: Sequence[Any]) -> list[Any]:
        whats = {item.get("bad") for item in items}
        if "exception" in whats:
            raise ValueError("it cannot")
        if "refusing" in whats:
            raise Reject("not this one")
        rows = [self.answer(item) for item in items]
        return [{**row, "x": math.nan} for row in rows] if self.spreads and "not_finite" in whats else rows

    def answer(self, item: Any) -> Any:
        match item.get("bad"):
            case "contract":
                return {"n": 2**40, "x": 0.5}
            case "not_finite":
                return {"n": item["n"], "x": math.nan}
            case "rejected":
                return Reject("no")
        return {"n": item["n"], "x": 0.5}


class WithExample(Plain):
    def example(self) -> Any:
        return {"n": 0}


class Spreading(WithExample):
    """Behaves like a model that normalizes over its batch: one NaN makes every result NaN."""

    spreads = True

    def answer(self, item: Any) -> Any:
        return {"n": item["n"], "x": 0.5} if item.get("bad") == "not_finite" else super().answer(item)


@dataclass
class Told:
    """``calls``: of each batch, when all of it was tried before the next began."""

    calls: list[int] = field(default_factory=list)
    loads: int = 0


def judged(model: str, batches: Sequence[list[Record]], *, retries: int = 1, replicas: int = 1) -> Told:
    told = Told()
    counted = 0

    def seconds(payloads: Sequence[bytes]) -> float:
        nonlocal counted
        counted += 1
        return 0.0

    def on_event(event: Any) -> None:
        told.loads += isinstance(event, ReplicaReplaced)

    async def main() -> None:
        nonlocal counted
        settings = host_settings(f"{__name__}:{model}", "1", replicas, 1, retries=retries, not_finite="reject")
        host = ModelHost(settings, on_event=on_event, link=partial(FakeReplica, seconds=seconds))
        await host.start()
        for batch in batches:
            counted = 0
            await host.settle(batch)
            told.calls.append(counted)
        await host.stop()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())
    return told


def mixture(dice: random.Random, kinds: Sequence[str]) -> list[list[Record]]:
    """Batches of all sizes: without bad records, with some, and with only bad ones."""
    batches = []
    for _ in range(dice.randint(1, 6)):
        share = dice.choice((0.0, 0.02, 0.2, 0.5, 1.0, 1.0))
        size = dice.choice((1, 2, 3, 7, 16, 33, 64))
        batches.append(
            [record(n, **({"bad": dice.choice(kinds)} if dice.random() < share else {})) for n in range(size)]
        )
    return batches


def bad(batch: Sequence[Record]) -> int:
    return sum(b'"bad"' in each.data for each in batch)


def bound(batch: Sequence[Record], retries: int) -> int:
    """The numbers in docs/architecture.md, "What a bad record costs"."""
    n, k = len(batch), bad(batch)
    if not k:
        return 1
    search = min(k * (math.ceil(math.log2(n)) + 2), 2 * n + 8)
    return 1 + search + k * retries + k + 3


def expect_only_the_bad_dead(batches: Sequence[list[Record]]) -> None:
    for batch in batches:
        for n, each in enumerate(batch):
            if b'"bad"' not in each.data:
                assert isinstance(each.outcome, Enriched), each.outcome
                assert each.outcome.table.column("n")[each.outcome.row].as_py() == n
            else:
                assert isinstance(each.outcome, Dead)
                assert any(what.encode() in each.data and KINDS[what] == each.outcome.kind for what in KINDS)


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [list(KINDS)], ids="-".join)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_replica_that_is_well_is_never_replaced_for_bad_records(seed: int, kinds: list[str]) -> None:
    dice = random.Random(f"{seed} {kinds}")
    retries = dice.choice((0, 1, 1, 3))
    batches = mixture(dice, kinds)
    model = "WithExample"
    if dice.random() < 0.5:  # a record that has passed is as good as an example
        model, batches = "Plain", [[record(0)], *batches]
    told = judged(model, batches, retries=retries, replicas=dice.choice((1, 1, 2)))
    expect_only_the_bad_dead(batches)
    assert told.loads == 0
    for batch, calls in zip(batches, told.calls, strict=True):
        assert calls <= bound(batch, retries), (len(batch), bad(batch), calls)


@pytest.mark.parametrize("size", [2, 3, 64])
@pytest.mark.parametrize("kind", ["contract", "not_finite", "decode"])
@pytest.mark.parametrize("model", ["Plain", "WithExample"])
def test_a_batch_of_nothing_else_costs_one_call_more(model: str, kind: str, size: int) -> None:
    batches = [[record(0)], [record(n, bad=kind) for n in range(size)]]
    told = judged(model, batches)
    expect_only_the_bad_dead(batches)
    assert (told.loads, told.calls) == (0, [1, 2])


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [list(KINDS)], ids="-".join)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_where_nothing_can_tell_few_replicas_are_tried_in_all(seed: int, kinds: list[str]) -> None:
    """There is no example, and nothing has passed yet."""
    dice = random.Random(f"{seed} {kinds}")
    batches = [
        [record(n, bad=dice.choice(kinds)) for n in range(dice.choice((1, 2, 9)))] for _ in range(dice.randint(1, 5))
    ]
    told = judged("Plain", batches)
    expect_only_the_bad_dead(batches)
    assert told.loads <= FRESH_FAILURES
    for batch, calls in zip(batches, told.calls, strict=True):
        assert calls <= 2 * bound(batch, 1)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_healthy_record_dies_of_a_neighbour_whose_fault_spreads(seed: int) -> None:
    dice = random.Random(seed)
    batches = mixture(dice, ["not_finite"])
    told = judged("Spreading", batches, replicas=dice.choice((1, 2)))
    expect_only_the_bad_dead(batches)
    assert told.loads == 0
    for batch, calls in zip(batches, told.calls, strict=True):
        assert calls <= bound(batch, 1), (len(batch), bad(batch), calls)
