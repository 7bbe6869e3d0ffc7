"""Which records go to the model together, and when. One batcher per task, across all its shards.

Pure and single-threaded: ``now`` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence

from pipeline.record import Record


def cost_of(records: Sequence[Record], *, pads: bool) -> int:
    """What a batch costs: the sum, or, if the model pads, its dearest record's cost for each."""
    costs = [record.cost for record in records]
    return max(costs, default=0) * len(costs) if pads else sum(costs)


class Batcher:
    """Micro-batches within two budgets, fair across lanes, and work-conserving.

    A batch has at most ``max_records`` records, and costs (:func:`cost_of`) at most ``max_cost`` (0: no limit), or what
    :meth:`limit` says if that is less. A record that is over the budget by itself goes alone. A batch is due when it is
    full, or when its oldest record has waited ``linger_s``; so a deep backlog never lingers.

    Records of a lane leave in the order in which they came. Each batch serves the lane that has waited longest for its
    turn, so a lane is served at least once in as many batches as there are lanes, however hot the others are.
    """

    def __init__(self, *, max_records: int, max_cost: int, linger_s: float, pads: bool) -> None:
        self._max_records = max_records
        self._budget = max_cost
        self._max_cost = max_cost  # or less; what follows from costs is kept up only while there is one
        self._linger_s = linger_s
        self._pads = pads
        self._lanes: OrderedDict[Hashable, _Waiting] = OrderedDict()  # only lanes with records; the front is next
        self._count = 0
        self._cost = 0
        self._peak: int | None = 0  # the dearest waiting record's cost; None: to be looked up

    def __len__(self) -> int:
        """How many records wait."""
        return self._count

    def add(self, lane: Hashable, records: Sequence[Record], now: float) -> None:
        """Let ``records``, which follow the lane's earlier ones, wait for a batch."""
        if not records:
            return
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = _Waiting()
        waiting.extend(records, now)
        self._count += len(records)
        if self._max_cost:
            costs = [record.cost for record in records]
            self._cost += sum(costs)
            if self._peak is not None:
                self._peak = max(self._peak, *costs)

    def limit(self, cost: int) -> None:
        """From now on let a batch cost at most so much (0: no limit), besides its budget: what fits into memory."""
        most = min(self._budget or cost, cost or self._budget)
        if most == self._max_cost:
            return
        if not self._max_cost:
            self._cost = sum(record.cost for waiting in self._lanes.values() for record in waiting.records)
            self._peak = None if self._lanes else 0
        self._max_cost = most

    def take(self, now: float, *, draining: bool = False) -> list[Record]:
        """A batch if one is due, else an empty list. ``draining``: whatever waits is due."""
        due_at = self.due_at()
        if due_at is None or not (draining or due_at <= now):
            return []
        batch = self._form_by_cost() if self._max_cost else self._form()
        self._count -= len(batch)
        return batch

    def due_at(self) -> float | None:
        """When :meth:`take` gives a batch if nothing more is added; a time in the past if it would now."""
        if not self._count:
            return None
        oldest = min(waiting.since for waiting in self._lanes.values())
        return oldest if self._is_full() else oldest + self._linger_s

    def drop(self, lane: Hashable) -> None:
        """Forget the lane's waiting records: its lease is lost."""
        waiting = self._lanes.pop(lane, None)
        if waiting is None:
            return
        self._count -= len(waiting.records)
        self._left(waiting.records)

    # -- due

    def _is_full(self) -> bool:
        if self._count >= self._max_records:
            return True
        if not self._max_cost:
            return False
        return (self._peak_cost() * self._count if self._pads else self._cost) >= self._max_cost

    def _peak_cost(self) -> int:
        """Only asked while less than a batch waits, so looking it up is bounded by the size of a batch."""
        if self._peak is None:
            self._peak = max(record.cost for waiting in self._lanes.values() for record in waiting.records)
        return self._peak

    def _left(self, records: Sequence[Record]) -> None:
        if self._max_cost:
            self._cost -= sum(record.cost for record in records)
            self._peak = None if self._lanes else 0

    # -- forming

    def _form(self) -> list[Record]:
        """Share the batch out evenly; what one lane cannot fill goes to the others."""
        batch: list[Record] = []
        turn = list(self._lanes)
        while turn and (room := self._max_records - len(batch)):
            share = max(1, room // len(turn))
            for lane in turn[:room]:
                batch += self._lanes[lane].pop(share)
                self._served(lane)
            turn = [lane for lane in turn if lane in self._lanes]
        return batch

    def _form_by_cost(self) -> list[Record]:
        """One record of each lane in turn; a lane whose next record does not fit waits for another batch."""
        batch: list[Record] = []
        turn = deque(self._lanes)
        cost = 0
        while turn and len(batch) < self._max_records:
            lane = turn.popleft()
            waiting = self._lanes[lane]
            head = waiting.records[0].cost
            after = max(cost, head) if self._pads else cost + head
            if batch and (after * (len(batch) + 1) if self._pads else after) > self._max_cost:
                continue
            cost = after
            batch += waiting.pop(1)
            self._served(lane)
            if lane in self._lanes:
                turn.append(lane)
        self._left(batch)
        return batch

    def _served(self, lane: Hashable) -> None:
        if self._lanes[lane].records:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]


class _Waiting:
    """A lane's records, and when they came: one arrival per :meth:`extend`, not per record."""

    __slots__ = ("_arrivals", "records")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self._arrivals: deque[tuple[float, int]] = deque()

    @property
    def since(self) -> float:
        """When the oldest record came."""
        return self._arrivals[0][0]

    def extend(self, records: Sequence[Record], now: float) -> None:
        self.records.extend(records)
        self._arrivals.append((now, len(records)))

    def pop(self, most: int) -> list[Record]:
        """The oldest records, at most so many."""
        count = min(most, len(self.records))
        left = count
        while left:
            since, size = self._arrivals.popleft()
            if size > left:
                self._arrivals.appendleft((since, size - left))
                break
            left -= size
        popleft = self.records.popleft
        return [popleft() for _ in range(count)]
