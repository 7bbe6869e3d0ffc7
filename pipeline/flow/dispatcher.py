"""Decides when the next batch goes to the model, and how large it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.flow.bounds import Room
from pipeline.flow.lane import Lane
from pipeline.judge import Judge
from pipeline.metrics.batches import BatchMetrics
from pipeline.metrics.replica_time import ReplicaTimeMetrics
from pipeline.record import Record

_SHARD_ID = attrgetter("shard_id")

FILLING_S = 0.25
"""The most seconds that a batch waits for more records while every replica is busy and shards are behind."""


class Dispatcher:
    """Hands out batches, one at a time, to as many callers as the model host has slots."""

    def __init__(
        self,
        batcher: Batcher,
        judge: Judge,
        lanes: Mapping[str, Lane],
        room: Room,
        batches: BatchMetrics,
        replica_time: ReplicaTimeMetrics,
        *,
        batch_sizes: BatchSizeController | None,
        clock: Callable[[], float],
    ) -> None:
        """``lanes``: the open ones, by shard id. ``batch_sizes``: None if batches are always as large as allowed."""
        self._batcher = batcher
        self._judge = judge
        self._lanes = lanes
        self._room = room
        self._batches = batches
        self._replica_time = replica_time
        self._batch_sizes = batch_sizes
        self._clock = clock
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._out = 0

    def add(self, lane: Lane, records: Sequence[Record]) -> None:
        """Let records of an open lane wait for a batch."""
        self._batcher.add(lane, records, self._clock())
        self.look_again()

    def drop(self, lane: Lane) -> None:
        """Drop the lane's waiting records."""
        self._batcher.drop(lane)

    def look_again(self) -> None:
        """Check again whether a batch is due."""
        self._wake.set()

    async def next(self) -> tuple[Sequence[Record], Sequence[Lane]]:
        """Wait for the next batch. It is out until :meth:`returned` is called with its lanes."""
        async with self._turn:
            while True:
                self._wake.clear()
                now = self._clock()
                ending = any(lane.ending for lane in self._lanes.values())
                may_wait_s = self._may_wait_s()
                self._batcher.follow(self._plan())
                if batch := self._batcher.take(now, draining=ending, may_wait_s=may_wait_s):
                    self._batches.queued(len(self._batcher))
                    return batch, self._begin(batch)
                due = self._batcher.due_at(may_wait_s)
                await self._woken(None if due is None else max(0.0, due - now))

    def returned(self, lanes: Sequence[Lane]) -> None:
        """A batch of these lanes is settled."""
        self._note_out(-1)
        self._wake.set()
        for lane in lanes:
            lane.judging -= 1

    def _plan(self) -> BatchPlan:
        """The fastest plan that fits into memory and the time-out."""
        plan = BatchPlan() if self._batch_sizes is None else self._batch_sizes.plan
        return plan.within(self._judge.safe_cost)

    def _may_wait_s(self) -> float:
        """How long a batch that is not full may wait: no longer than needed, unless no replica is free anyway and
        shards that are behind will fill it.
        """
        busy = 2 * self._out >= self._judge.slots
        return FILLING_S if busy and any(lane.behind for lane in self._lanes.values()) else 0.0

    async def _woken(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _begin(self, batch: Sequence[Record]) -> Sequence[Lane]:
        """Return the lanes of a batch. Records in the batcher belong to open lanes."""
        lanes = [self._lanes[shard_id] for shard_id in dict.fromkeys(map(_SHARD_ID, batch))]
        for lane in lanes:
            lane.judging += 1
        self._note_out(+1)
        if self._batch_sizes is not None:
            self._batch_sizes.formed()
        return lanes

    def _note_out(self, more: int) -> None:
        self._out += more
        self._replica_time.at_work(self._out, held=self._room.full)
