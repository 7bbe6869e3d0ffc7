"""Takes records in and hands durable rows out. The way of a record:

    admit ─▶ take in (skip what is held, measure) ─▶ batch ─▶ settle ─▶ release in order ─▶ gate ─▶ write ─▶ durable

There is one :class:`pipeline.flow.lane.Lane` for each shard session and one :class:`Stage` for each task. Batches
contain records of several shards. Rows come out for each shard in sequence order. The session checkpoints how far its
shard is durable.

The parts are in :mod:`pipeline.flow`: what waits (``waiting``), how much may be held (``bounds``), when a batch is due
(``dispatcher``), and the way from a settled record to the sinks (``outlet``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pipeline import aggregate, background
from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds, Room
from pipeline.flow.dead_letter_reports import DeadLetterReports
from pipeline.flow.dispatcher import Dispatcher
from pipeline.flow.lane import Lane
from pipeline.flow.misplaced import Misplaced
from pipeline.flow.outlet import Outlet
from pipeline.judge import Judge
from pipeline.metrics import Metrics
from pipeline.metrics.in_flight import Load
from pipeline.record import Dead, Position, Record, Shard
from pipeline.sinks import Sink


class Stage:
    """All shards of a task, one batcher, one model host, every sink."""

    def __init__(
        self,
        judge: Judge,
        batcher: Batcher,
        sinks: Sequence[Sink],
        bounds: Bounds,
        metrics: Metrics,
        *,
        batch_sizes: BatchSizeController | None = None,
        limits: Limits | None = None,
        letters: DeadLetterLog | None = None,
        misplaced: Misplaced | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``batch_sizes`` chooses batch sizes; the model host reports to it how long they took.

        ``limits``: on dead letters; by default there are none. ``letters``: logs dead letters; by default they are not
        logged. ``misplaced``: notes aggregates of another shard; by default none is considered so.
        """
        self.misplaced = misplaced or Misplaced(metrics.records)
        self._limits = limits
        self._reports = DeadLetterReports(letters, metrics.outages.part("dead-letter limit"))
        self._judge = judge
        self._sinks = sinks
        self.metrics = metrics
        self._records, self._batches, self._letters = metrics.records, metrics.batches, metrics.dead_letters
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._room = Room(bounds, self._lanes)
        self._dispatcher = Dispatcher(
            batcher,
            judge,
            self._lanes,
            self._room,
            metrics.batches,
            metrics.replica_time,
            batch_sizes=batch_sizes,
            clock=clock,
        )
        self._outlet = Outlet(
            self._lanes,
            self._room,
            metrics,
            self._reports,
            limits,
            keeps_payloads=any(sink.wants_payloads for sink in sinks),
            fail=self.fail,
        )
        self._relief: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        metrics.in_flight.watch(self.in_flight)

    async def run(self) -> None:
        """Work until cancelled. Raises the error that must end the task."""
        workers = [self._begin_work("the stage", self._work, endless=True) for _ in range(self._judge.slots)]
        try:
            raise await self._failure
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._reports.flush()
            self.misplaced.tell()

    # -- what a session calls

    def open(self, shard: Shard, checkpoint: Position | None) -> Lane:
        """Begin a shard session. An open session of the same shard is abandoned: its lease is lost."""
        if stale := self._lanes.get(shard.shard_id):
            self.abandon(stale)
        lane = Lane(shard, checkpoint, [sink.name for sink in self._sinks], self._limits)
        for sink in self._sinks:
            lane.writers.append(sink.open(shard, partial(self._durable, lane, sink.name), self.fail))
        lane.task = self._begin_work(f"the stage of {shard.shard_id}", partial(self._take_in, lane), endless=True)
        self._lanes[shard.shard_id] = lane
        return lane

    def admit(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take a message's records, in sequence order. Never blocks: check :meth:`has_room` before the next message."""
        if not records:
            return
        count = lane.waiting.put(records)
        lane.fed.set()
        self._records.received(lane.shard.shard_id, count)

    def has_room(self, lane: Lane) -> bool:
        """Whether one more message may be admitted."""
        return self._room.for_message(lane) and not self.stopped

    @property
    def stopped(self) -> str | None:
        """Why the task must end because of too many dead letters; nothing passes from then on."""
        return self._outlet.stopped

    @property
    def bytes(self) -> int:
        """Bytes that the whole task holds: waiting, in the windows, and taken by sinks but not durable."""
        return self._room.bytes

    def in_flight(self) -> dict[str, Load]:
        """What each shard holds."""
        return self._room.in_flight()

    async def end(self, lane: Lane) -> None:
        """Return once everything admitted is settled and durable, for the end of a shard. Cancel it to give up."""
        lane.ending = True
        self._dispatcher.look_again()
        while lane.unsettled and not self.stopped:
            lane.changed.clear()
            await lane.changed.wait()
        self._outlet.end(lane)
        if self.stopped:
            raise Fatal(self.stopped)
        await asyncio.gather(*(writer.flush() for writer in lane.writers))

    async def drain(self, lane: Lane) -> None:
        """Return once everything that the model has begun is durable. The shard's next owner reads the rest again.

        A window may hold minutes of work, and a task that leaves has seconds. Batches take a lane's records in order,
        so what was begun has no gaps. For a model that pads, it may have gaps; then what comes after the first gap
        (less than a look-ahead) is lost work. So is what is held back of a shard that is behind. Cancel it to give up.
        """
        if lane.task is not None:
            lane.task.cancel()
        self._dispatcher.drop(lane)
        while lane.judging:
            lane.changed.clear()
            await lane.changed.wait()
        if not lane.behind:
            self._outlet.let_go(lane)
        await asyncio.gather(*(writer.flush() for writer in lane.writers))

    def abandon(self, lane: Lane) -> None:
        """The lease is lost, or the session is over: write nothing more for it."""
        if lane.task is not None:
            lane.task.cancel()
        for writer in lane.writers:
            writer.abandon()
        self._dispatcher.drop(lane)
        lane.window.clear()
        lane.gate.clear()
        lane.waiting.clear()
        if self._lanes.get(lane.shard.shard_id) is lane:
            del self._lanes[lane.shard.shard_id]
            self._records.forget(lane.shard.shard_id)
            self._reports.suspect(self._lanes.values())
        lane.changed.set()
        self._announce()

    def checkpointed(self, lane: Lane) -> None:
        """KCL accepted a checkpoint: the shard's next owner begins after it."""
        self._judge.trust(lane.shard)

    def noted(self, lane: Lane) -> None:
        """The reader of this shard notes each try itself, where the next task finds it: the model host need not."""
        self._judge.trust(lane.shard)

    def fail(self, error: BaseException) -> None:
        """End :meth:`run` with this error."""
        if not self._failure.done():
            self._failure.set_result(error)

    # -- a record's way

    async def _take_in(self, lane: Lane) -> None:
        await lane.fed.wait()
        resuming = self._resume(lane, lane.waiting.first)
        within = self.misplaced.within(lane.shard.shard_id)
        lane.waiting.beyond, lane.waiting.within = await asyncio.gather(resuming, within)
        while True:
            lane.fed.clear()
            before = lane.waiting.records
            fresh = lane.waiting.take(*self._room.for_user_records(lane))
            self.misplaced.note(lane.shard, lane.waiting.misplaced)
            if before - lane.waiting.records > len(fresh):
                self._announce(but=lane)
            if fresh:
                if lane.before_entry is not None:
                    lane.entering = len(fresh)
                    await lane.before_entry(fresh[-1])
                    lane.entering = 0
                await self._enter(lane, fresh)
            else:
                self._relieve()
                await lane.fed.wait()

    async def _resume(self, lane: Lane, first: Record) -> Position | None:
        """How far every sink already has this shard: skip these records, so that they cost no prediction."""
        resuming = asyncio.gather(*(writer.resume(first, lane.checkpoint) for writer in lane.writers))
        positions, _ = await asyncio.gather(resuming, self._judge.recall(lane.shard, first))
        for sink, position in zip(self._sinks, positions, strict=True):
            if position is not None:
                self._durable(lane, sink.name, position)
        known = [position for position in positions if position is not None]
        return min(known) if len(known) == len(positions) else None

    async def _enter(self, lane: Lane, fresh: Sequence[Record]) -> None:
        """Put records into the window, and into the batcher if they have no outcome yet."""
        lane.window.extend(fresh)
        able = [record for record in fresh if record.outcome is None]
        for record in fresh if len(able) < len(fresh) else ():
            if isinstance(record.outcome, Dead) and record.outcome.kind == aggregate.KIND:
                self._letters.note(record.outcome.kind)
        if able and self._judge.measures:
            await self._judge.measure(able)
            able = [record for record in able if record.outcome is None]
        self._dispatcher.add(lane, able)
        if len(able) < len(fresh):
            self._release((lane,))
        self._outlet.expect_nothing(lane)
        self._announce(but=lane)

    async def _work(self) -> None:
        while True:
            batch, lanes = await self._dispatcher.next()
            started = self._clock()
            with self.metrics.progress.batch([lane.shard.shard_id for lane in lanes], started):
                await self._judge.settle(batch)
            self._batches.returned(len(batch), self._clock() - started)
            self._dispatcher.returned(lanes)
            self._release(lanes)

    def _release(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._outlet.release(lane)
        self._relieve()
        self._announce()

    def _durable(self, lane: Lane, sink: str, position: Position) -> None:
        if lane.durability.reached(sink, position) and (passed := lane.released.passed(position)):
            self._records.durable(lane.shard.shard_id, passed)
        self._announce()

    # -- room

    def _relieve(self) -> None:
        """Hold back less if held records fill the task; flush the fullest writer early if its backlog does."""
        self._outlet.hold_less()
        if self._relief is not None and not self._relief.done():
            return
        if (writer := self._room.fullest_writer()) is not None:
            self._relief = self._begin_work("the early flush of a sink", writer.flush)

    def _announce(self, but: Lane | None = None) -> None:
        """Room or durability may have changed for every lane, since bounds are the task's. ``but`` knows already."""
        for lane in self._lanes.values():
            lane.changed.set()
            if lane.waiting and lane is not but:
                lane.fed.set()

    def _begin_work(self, name: str, work: background.Work, *, endless: bool = False) -> asyncio.Task[None]:
        return background.start(work, name=name, on_failure=self.fail, endless=endless)
