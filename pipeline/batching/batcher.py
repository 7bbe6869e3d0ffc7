"""Decides which records go to the model together, and when. One batcher for each task, for all its shards.

Pure and single-threaded: ``now`` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from pipeline.batching.length_buckets import stretch
from pipeline.record import Record


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The limits of a batch; 0: no limit. ``call_cost``: the cost of a call itself, in the unit of records' costs."""

    records: int = 0
    cost: int = 0
    call_cost: int = 0

    def within(self, cost: int) -> BatchPlan:
        """Return the same plan with a cost of at most ``cost``; 0: no limit."""
        return replace(self, cost=min(self.cost or cost, cost or self.cost))


class Batcher:
    """Forms micro-batches within two limits, fairly across lanes, without waiting while there is work.

    A batch has at most ``max_records`` records and a cost (:func:`pipeline.record.cost_of`) of at most ``max_cost`` (0:
    no limit), or less if :meth:`follow` says so. A record above the cost limit goes alone. A batch is due when there
    are enough records for a full one, or when the oldest record has waited ``linger_s``. So with a backlog nothing
    waits.

    Each batch serves the lane that has waited longest for its turn. With ``n`` lanes, a lane is served at least once in
    ``n`` batches, however many records the others have. Records of a lane leave in their order.

    With ``bucket_records``, for a model that pads, records leave in batches of similar cost
    (:mod:`pipeline.batching.length_buckets`) and may overtake others. Then a record is overtaken by
    fewer than ``bucket_records`` records of its lane. With ``n`` lanes, the oldest record of each lane leaves within
    ``n`` batches, and a record with ``m`` older ones in its lane within ``(m + 1) n`` batches.
    """

    def __init__(self, *, max_records: int, max_cost: int, linger_s: float, bucket_records: int = 0) -> None:
        self._most = BatchPlan(max_records, max_cost)
        self._plan = self._most
        self._linger_s = linger_s
        self._bucket_records = bucket_records
        self._lanes: OrderedDict[Hashable, _Waiting] = OrderedDict()  # lanes with records; the first one is next
        self._count = 0
        self._cost = 0

    def __len__(self) -> int:
        """How many records wait."""
        return self._count

    def add(self, lane: Hashable, records: Sequence[Record], now: float) -> None:
        """Add records, which must follow the lane's earlier ones."""
        if not records:
            return
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = _Waiting()
        waiting.extend(records, now)
        self._count += len(records)
        self._cost += _sum(records)

    def follow(self, plan: BatchPlan) -> None:
        """From now on, also keep within ``plan``: the fastest size that fits into memory."""
        records = min(plan.records or self._most.records, self._most.records)
        self._plan = replace(plan.within(self._most.cost), records=records)

    def take(self, now: float, *, draining: bool = False, may_wait_s: float = 0.0) -> list[Record]:
        """Return a batch if one is due, else an empty list. ``draining``: everything that waits is due."""
        due_at = self.due_at(may_wait_s)
        if due_at is None or not (draining or due_at <= now):
            return []
        form = self._form_by_length if self._bucket_records else self._form_by_cost if self._plan.cost else self._form
        batch = form()
        self._left(batch)
        return batch

    def due_at(self, may_wait_s: float = 0.0) -> float | None:
        """The time when :meth:`take` returns a batch if nothing is added; a past time if it would now; None if nothing
        waits.

        ``may_wait_s``: how long records may wait for more, if that is longer than ``linger_s``.
        """
        if not self._count:
            return None
        oldest = min(waiting.since for waiting in self._lanes.values())
        return oldest if self._is_full() else oldest + max(self._linger_s, may_wait_s)

    def drop(self, lane: Hashable) -> None:
        """Drop the lane's waiting records: its lease is lost."""
        if waiting := self._lanes.pop(lane, None):
            self._left(list(waiting))

    def _is_full(self) -> bool:
        return self._count >= self._plan.records or 0 < self._plan.cost <= self._cost

    def _left(self, records: Sequence[Record]) -> None:
        self._count -= len(records)
        self._cost -= _sum(records)

    # -- forming

    def _form(self) -> list[Record]:
        """Divide the batch evenly among the lanes; what one lane cannot fill goes to the others."""
        batch: list[Record] = []
        turn = list(self._lanes)
        while turn and (room := self._plan.records - len(batch)):
            share = max(1, room // len(turn))
            for lane in turn[:room]:
                batch += self._lanes[lane].pop(share)
                self._served(lane)
            turn = [lane for lane in turn if lane in self._lanes]
        return batch

    def _form_by_cost(self) -> list[Record]:
        """Take one record from each lane in turn. A lane whose next record does not fit waits for another batch."""
        batch: list[Record] = []
        turn = deque(self._lanes)
        cost = 0
        while turn and len(batch) < self._plan.records:
            lane = turn.popleft()
            head = self._lanes[lane].first.cost
            if batch and cost + head > self._plan.cost:
                continue
            cost += head
            batch += self._lanes[lane].pop(1)
            self._served(lane)
            if lane in self._lanes:
                turn.append(lane)
        return batch

    def _form_by_length(self) -> list[Record]:
        """Take the oldest record of the lane whose turn it is, and records of similar cost from the look-ahead of
        all lanes.
        """
        share = max(1, self._bucket_records // len(self._lanes))
        ahead = [
            (record.cost, turn, ordinal)
            for turn, waiting in enumerate(self._lanes.values())
            for ordinal, record in waiting.ahead(share)
        ]
        anchor = ahead[0]
        ahead.sort()
        low, high = stretch(
            [cost for cost, _, _ in ahead],
            ahead.index(anchor),
            most=self._plan.records,
            budget=self._plan.cost,
            call_cost=self._plan.call_cost,
        )
        taken: dict[int, set[int]] = {}
        for _, turn, ordinal in ahead[low:high]:
            taken.setdefault(turn, set()).add(ordinal)
        lanes = list(self._lanes)
        batch: list[Record] = []
        for turn, ordinals in taken.items():
            waiting = self._lanes[lanes[turn]]
            oldest = waiting.first
            batch += waiting.take(ordinals)
            if not waiting or waiting.first is not oldest:
                self._served(lanes[turn])
        return batch

    def _served(self, lane: Hashable) -> None:
        if self._lanes[lane]:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]


def _sum(records: Sequence[Record]) -> int:
    return sum([record.cost for record in records])


class _Waiting:
    """A lane's records, numbered in order of arrival, and their arrival times, one for each :meth:`extend`."""

    __slots__ = ("_arrivals", "_next", "_ordinals", "_records")

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._ordinals: deque[int] = deque()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._next = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @property
    def first(self) -> Record:
        return self._records[0]

    @property
    def since(self) -> float:
        """When the oldest record arrived."""
        return self._arrivals[0][0]

    def extend(self, records: Sequence[Record], now: float) -> None:
        end = self._next + len(records)
        self._records.extend(records)
        self._ordinals.extend(range(self._next, end))
        self._arrivals.append((now, end))
        self._next = end

    def pop(self, most: int) -> list[Record]:
        """Return the oldest records, at most ``most``."""
        pop, forget = self._records.popleft, self._ordinals.popleft
        popped = [pop() for _ in range(min(most, len(self._records)))]
        for _ in popped:
            forget()
        self._forget_arrivals()
        return popped

    def ahead(self, most: int) -> Iterator[tuple[int, Record]]:
        """Yield the oldest record and those that came as one of the next ``most`` after it, with their ordinals."""
        end = self._ordinals[0] + most
        return takewhile(lambda each: each[0] < end, zip(self._ordinals, self._records, strict=True))

    def take(self, ordinals: set[int]) -> list[Record]:
        """Return the records with these ordinals, in order."""
        taken: list[Record] = []
        kept: list[tuple[int, Record]] = []
        while len(taken) < len(ordinals):
            ordinal, record = self._ordinals.popleft(), self._records.popleft()
            if ordinal in ordinals:
                taken.append(record)
            else:
                kept.append((ordinal, record))
        for ordinal, record in reversed(kept):
            self._ordinals.appendleft(ordinal)
            self._records.appendleft(record)
        self._forget_arrivals()
        return taken

    def _forget_arrivals(self) -> None:
        while self._arrivals and (not self._ordinals or self._arrivals[0][1] <= self._ordinals[0]):
            self._arrivals.popleft()
