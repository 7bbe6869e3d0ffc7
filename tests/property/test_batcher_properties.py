"""The batcher's promises under any traffic: lanes, arrivals, costs and takes in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.batching.length_buckets import PADDING
from pipeline.record import Record, cost_of

LINGER_S = 0.5
BUCKET_RECORDS = 8

budgets = st.fixed_dictionaries(
    {"max_records": st.integers(1, 12), "max_cost": st.sampled_from([0, 7, 20]), "pads": st.booleans()}
)
Step = tuple[str, int, list[int]]

add = st.tuples(st.just("add"), st.integers(0, 4), st.lists(st.integers(1, 12), min_size=1, max_size=15))
step: st.SearchStrategy[Step] = st.one_of(
    add,
    add,
    st.tuples(st.just("take"), st.just(0), st.just([])),
    st.tuples(st.just("pass"), st.integers(1, 8), st.just([])),
    st.tuples(st.just("drop"), st.integers(0, 4), st.just([])),
    st.tuples(st.just("limit"), st.sampled_from([0, 1, 5, 15]), st.just([])),
)


@dataclass
class Traffic:
    """A batcher, and a simple model of its contents."""

    budget: dict[str, int]
    now: float = 0.0
    limit: int = 0
    given: int = 0
    taken: list[list[Record]] = field(default_factory=list)
    max_costs: list[int] = field(default_factory=list)
    waiting: dict[int, list[tuple[float, Record]]] = field(default_factory=dict)
    overtaken: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bounds = {name: most for name, most in self.budget.items() if name != "pads"}
        buckets = BUCKET_RECORDS if self.budget["pads"] else 0
        self.batcher = Batcher(linger_s=LINGER_S, bucket_records=buckets, **bounds)

    def run(self, steps: list[Step]) -> None:
        for name, number, costs in steps:
            if name == "add":
                self.add(number, costs)
            elif name == "take":
                self.take()
            elif name == "limit":
                self.limit = number
                self.batcher.follow(BatchPlan(cost=number))
            elif name == "pass":
                self.now += number * LINGER_S / 4
            else:
                self.batcher.drop(number)
                self.waiting.pop(number, None)
            assert len(self.batcher) == sum(len(records) for records in self.waiting.values())

    @property
    def max_cost(self) -> int:
        return min(self.budget["max_cost"] or self.limit, self.limit or self.budget["max_cost"])

    def add(self, lane: int, costs: list[int]) -> None:
        records = [Record(str(lane), b"", "key", str(self.given + i), 0, 0, cost=c) for i, c in enumerate(costs)]
        self.given += len(records)
        self.batcher.add(lane, records, self.now)
        self.waiting.setdefault(lane, []).extend((self.now, record) for record in records)

    def leave(self, lane: list[tuple[float, Record]], record: Record) -> None:
        """In order; or, if the model pads, before fewer older records than the look-ahead has, this batch's
        included."""
        older = [waiting for _, waiting in lane].index(record)
        assert older == 0 or self.budget["pads"]
        for _, waiting in lane[:older]:
            self.overtaken[waiting.sequence] = self.overtaken.get(waiting.sequence, 0) + 1
            assert self.overtaken[waiting.sequence] < BUCKET_RECORDS
        del lane[older]

    def take(self, *, draining: bool = False) -> list[Record]:
        due_at = self.batcher.due_at()
        batch = self.batcher.take(self.now, draining=draining)
        if not draining:
            assert bool(batch) == (due_at is not None and due_at <= self.now)
        for record in batch:
            self.leave(self.waiting[int(record.shard_id)], record)
        self.waiting = {lane: records for lane, records in self.waiting.items() if records}
        if batch:
            self.taken.append(batch)
            self.max_costs.append(self.max_cost)
        return batch


@given(budgets, st.lists(step, max_size=40))
def test_each_record_leaves_once_and_in_order_or_among_its_like(budget: dict[str, int], steps: list[Step]) -> None:
    traffic = Traffic(budget)
    traffic.run(steps)
    while traffic.take(draining=True):
        pass
    assert not traffic.waiting
    assert traffic.batcher.due_at() is None


@given(budgets, st.lists(step, max_size=40))
def test_budgets_are_kept(budget: dict[str, int], steps: list[Step]) -> None:
    traffic = Traffic(budget)
    traffic.run(steps)
    for batch, max_cost in zip(traffic.taken, traffic.max_costs, strict=True):
        assert len(batch) <= budget["max_records"]
        if max_cost and len(batch) > 1:
            assert cost_of(batch, pads=bool(budget["pads"])) <= max_cost


@given(budgets, st.lists(step, max_size=40))
def test_no_record_lingers_beyond_the_limit_while_batches_are_taken(budget: dict[str, int], steps: list[Step]) -> None:
    traffic = Traffic(budget)
    traffic.run(steps)
    while traffic.take():
        pass
    for records in traffic.waiting.values():
        assert records[0][0] + LINGER_S > traffic.now
    assert len(traffic.batcher) < budget["max_records"]


@given(budgets, st.lists(step, max_size=40))
def test_a_batch_that_leaves_early_is_full(budget: dict[str, int], steps: list[Step]) -> None:
    """A batch has no room for the records that it left behind. (Padding has its own test.)"""
    budget = budget | {"pads": False}
    traffic = Traffic(budget)
    traffic.run(steps)
    lingered = [
        since for records in traffic.waiting.values() for since, _ in records if since + LINGER_S <= traffic.now
    ]
    before = len(traffic.batcher)
    batch = traffic.take()
    if not batch or lingered:
        return
    if len(batch) < budget["max_records"]:
        cost = cost_of(batch, pads=False)
        heads = [records[0][1].cost for records in traffic.waiting.values()]
        fits = [cost + head for head in heads]
        assert all(total > traffic.max_cost for total in fits)
        assert len(batch) < before or cost >= traffic.max_cost


@given(budgets, st.lists(step, max_size=40))
def test_every_lane_is_served_in_as_many_batches_as_there_are_lanes(budget: dict[str, int], steps: list[Step]) -> None:
    traffic = Traffic(budget)
    traffic.run(steps)
    lanes = set(traffic.waiting)
    served: set[str] = set()
    for _ in lanes:
        traffic.add(9, [1] * 30)  # a hot one
        served |= {record.shard_id for record in traffic.take(draining=True)}
    assert {str(lane) for lane in lanes} <= served


@given(st.integers(1, 12), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_deep_lanes_share_a_batch_evenly(max_records: int, sizes: list[int]) -> None:
    traffic = Traffic({"max_records": max_records, "max_cost": 0, "pads": 0})
    for lane, size in enumerate(sizes):
        traffic.add(lane, [1] * size)
    batch = traffic.take(draining=True)
    shares = {lane: sum(record.shard_id == str(lane) for record in batch) for lane in range(len(sizes))}
    deep = [shares[lane] for lane in traffic.waiting]
    assert not deep or max(shares.values()) - min(deep) <= 1


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 40), st.sampled_from([0, 900]))
def test_a_model_that_pads_is_given_little_padding(costs: list[int], max_records: int, max_cost: int) -> None:
    traffic = Traffic({"max_records": max_records, "max_cost": max_cost, "pads": True})
    traffic.add(0, costs)
    while batch := traffic.take(draining=True):
        assert cost_of(batch, pads=True) <= (1 + PADDING) * cost_of(batch, pads=False)


@given(budgets, st.lists(step, max_size=40))
def test_the_oldest_of_a_lane_leaves_in_as_many_batches_as_there_are_lanes(
    budget: dict[str, int], steps: list[Step]
) -> None:
    traffic = Traffic(budget | {"pads": True})
    traffic.run(steps)
    oldest = {lane: records[0][1] for lane, records in traffic.waiting.items()}
    left = [record for _ in oldest for record in traffic.take(draining=True)]
    assert all(record in left for record in oldest.values())
