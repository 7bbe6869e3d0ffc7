"""Records in, durable rows out. The whole way of a record is in this file:

    admit ─▶ take in (skip what is held, measure) ─▶ batch ─▶ settle ─▶ release in order ─▶ gate ─▶ write ─▶ durable

One :class:`Lane` per shard session, one :class:`Stage` per task. Batches span shards; rows come out per shard, in
sequence order; how far a shard is durable is for the session to checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Protocol

from pipeline import aggregate, background
from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher, Plan
from pipeline.dead_letters.limit import Gate, Limits, Tally
from pipeline.dead_letters.log import INTERVAL_S, DeadLetterLog
from pipeline.errors import Fatal
from pipeline.lane import Durability, Milestones, Waiting, Window
from pipeline.metrics import Metrics
from pipeline.misplaced import Misplaced
from pipeline.record import Dead, Position, Record, Run, Shard
from pipeline.sinks import ShardWriter, Sink

log = logging.getLogger("stage")

_SHARD_ID, _OUTCOME = attrgetter("shard_id"), attrgetter("outcome")

BEHIND_MS = 1_000
"""A shard that lags so much has more for us than it could hand over by now."""

PATIENCE_S = 0.25
"""How long a batch may wait for more, at most, while every replica is busy and shards are behind."""

FULL = (0, 0)
AT_A_TIME = 4_096
"""User records that are taken out of aggregates before others have their turn."""

HOLD_S = 2.0
"""A shard that is caught up and has had nothing to settle for so long will not tell soon what its held records are."""

HELD_SHARE = 0.5
"""Share of the memory bound that records may fill that are held back."""

RELIEVE_AT = 0.75
"""Share of the memory bound from which the fullest sink writer is flushed before its time."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """``records_per_shard``: admitted and not yet settled. ``total_bytes``: of these and the sinks' backlog, in the
    whole task.

    A shard that is below its bounds may admit one more message, and a session its first four in any case; so the true
    maximum is that much more per shard. Aggregates are admitted as they come, and weigh what they hold in memory so
    far; they are taken apart as far as there is room.
    """

    records_per_shard: int
    total_bytes: int


class Judge(Protocol):
    """What the stage asks of a model host; see :class:`pipeline.replicas.host.ModelHost` and
    :class:`pipeline.replicas.crash_journal.JournaledHost`."""

    @property
    def slots(self) -> int:
        """So many calls of :meth:`settle` may usefully run at once. Half of them are worked on, the others are next."""
        ...

    @property
    def measures(self) -> bool: ...

    @property
    def safe_cost(self) -> int: ...

    async def measure(self, records: Sequence[Record]) -> None: ...

    async def settle(self, records: Sequence[Record]) -> None: ...

    async def recall(self, shard: Shard, first: Record) -> None:
        """Before the first record of a session is judged: what is known of the shard's records from there on?"""
        ...

    def believe(self, shard: Shard) -> None:
        """A checkpoint of the shard was taken: it has got on."""
        ...


class Lane:
    """One shard session's way through the stage. Its session reads it; only the stage changes it."""

    def __init__(
        self, shard: Shard, checkpoint: Position | None, sinks: Sequence[str], limits: Limits | None = None
    ) -> None:
        self.shard = shard
        self.checkpoint = checkpoint
        self.window = Window(shard)
        self.gate = Gate(shard, limits or Limits(0, 1.0))
        self.durability = Durability(sinks)
        self.writers: list[ShardWriter] = []
        self.changed = asyncio.Event()
        self.draining = False
        self.judging = 0
        self.lag_ms = 0
        self.waiting = Waiting()
        self.fed = asyncio.Event()
        self.before_entry: Callable[[Record], Awaitable[None]] | None = None
        """Awaited before user records are let in, with the last of them."""
        self.entering = 0
        """Taken out of what waits, and in no window yet."""
        self.released = Milestones()
        self.task: asyncio.Task[None] | None = None

    @property
    def durable(self) -> Position | None:
        """Everything up to here is durable in every sink, or in the dead letters."""
        return self.durability.position

    @property
    def unsettled(self) -> int:
        return self.waiting.records + self.entering + len(self.window)

    @property
    def bytes(self) -> int:
        return self.waiting.bytes + self.taken_bytes

    @property
    def taken_bytes(self) -> int:
        """Of what was taken in: in the window, held back, or in the sinks."""
        return self.window.bytes + self.gate.bytes + sum(writer.backlog_bytes for writer in self.writers)


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
        pace: BatchSizeController | None = None,
        limits: Limits | None = None,
        letters: DeadLetterLog | None = None,
        misplaced: Misplaced | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pace`` says how large batches should be, and is told what they took by the model host.

        ``limits``: of dead letters; none by default. ``letters``: how they are logged; not at all by default.
        ``misplaced``: hears of aggregates that are another shard's; none is by default.
        """
        self.stopped: str | None = None
        """Why the task must end: too many dead letters. Nothing passes from then on."""
        self.misplaced = misplaced or Misplaced(metrics)
        self._limits = limits
        self._tally = Tally(limits or Limits(0, 1.0))
        self._letters = letters
        self._telling: asyncio.TimerHandle | None = None
        self._suspicion = metrics.outages.part("dead-letter limit", float("inf"))
        self._pace = pace
        self._judging = 0
        self._judge = judge
        self._batcher = batcher
        self._sinks = sinks
        self._keeps_payloads = any(sink.wants_payloads for sink in sinks)
        self._bounds = bounds
        self._metrics = metrics
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._relief: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        metrics.watch(self.in_flight)

    async def run(self) -> None:
        """Work until cancelled; raises what makes going on pointless."""
        workers = [self._begin_work("the stage", self._work, endless=True) for _ in range(self._judge.slots)]
        try:
            raise await self._failure
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._tell()
            self.misplaced.tell()

    # -- what a session calls

    def open(self, shard: Shard, checkpoint: Position | None) -> Lane:
        """Begin a shard session. One that is still open for the same shard is abandoned: its lease is gone."""
        if stale := self._lanes.get(shard.shard_id):
            self.abandon(stale)
        lane = Lane(shard, checkpoint, [sink.name for sink in self._sinks], self._limits)
        for sink in self._sinks:
            lane.writers.append(sink.open(shard, partial(self._durable, lane, sink.name), self.fail))
        lane.task = self._begin_work(f"the stage of {shard.shard_id}", partial(self._take_in, lane), endless=True)
        self._lanes[shard.shard_id] = lane
        return lane

    def admit(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take a message's records, in sequence order. Never blocks: ask :meth:`has_room` before the next."""
        if not records:
            return
        count = lane.waiting.put(records)
        lane.fed.set()
        self._metrics.received(lane.shard.shard_id, count)

    def has_room(self, lane: Lane) -> bool:
        """Undivided, aggregates have half of the bytes, so that there is room to take them apart."""
        bounds = self._bounds
        room = (
            lane.unsettled < bounds.records_per_shard
            and self.bytes < bounds.total_bytes
            and self._waiting_bytes < bounds.total_bytes / 2
        )
        return room and not self.stopped

    @property
    def _waiting_bytes(self) -> int:
        return sum([lane.waiting.bytes for lane in self._lanes.values()])

    @property
    def bytes(self) -> int:
        """What the whole task holds: waiting, in the windows, and taken by sinks but not durable."""
        return sum(lane.bytes for lane in self._lanes.values())

    def in_flight(self) -> dict[str, tuple[int, int]]:
        """Per shard: records admitted and not settled, and the bytes held until they are durable."""
        return {shard_id: (lane.unsettled, lane.bytes) for shard_id, lane in self._lanes.items()}

    async def drain(self, lane: Lane) -> None:
        """Return once everything admitted is settled and durable: the end of a shard. Cancel it to give up."""
        lane.draining = True
        self._wake.set()
        while lane.unsettled and not self.stopped:
            lane.changed.clear()
            await lane.changed.wait()
        self._pass(lane, lane.gate.end())
        if self.stopped:
            raise Fatal(self.stopped)
        await asyncio.gather(*(writer.flush() for writer in lane.writers))

    async def finish(self, lane: Lane) -> None:
        """Return once what the model has begun is durable; what it has not begun is another worker's to read again.

        A window may hold minutes of work, and a leaving task has seconds. Batches take a lane's records in order, so
        what was begun has no gaps; but for a model that pads, where what comes after a gap (less than a look-ahead)
        is lost work, as is what is held back of a shard that is behind. Cancel it to give up.
        """
        if lane.task is not None:
            lane.task.cancel()
        self._batcher.drop(lane)
        while lane.judging:
            lane.changed.clear()
            await lane.changed.wait()
        if lane.lag_ms <= BEHIND_MS:
            self._pass(lane, lane.gate.let_go())
        await asyncio.gather(*(writer.flush() for writer in lane.writers))

    def abandon(self, lane: Lane) -> None:
        """The lease is lost, or the session over: nothing more is written for it."""
        if lane.task is not None:
            lane.task.cancel()
        for writer in lane.writers:
            writer.abandon()
        self._batcher.drop(lane)
        lane.window.clear()
        lane.gate.clear()
        lane.waiting.clear()
        if self._lanes.get(lane.shard.shard_id) is lane:
            del self._lanes[lane.shard.shard_id]
            self._metrics.forget(lane.shard.shard_id)
            self._suspect()
        lane.changed.set()
        self._announce()

    def checkpointed(self, lane: Lane) -> None:
        """KCL has taken a checkpoint: whoever reads the shard next begins beyond it."""
        self._judge.believe(lane.shard)

    def noted(self, lane: Lane) -> None:
        """Whoever reads the shard notes each try where the next task finds it: the judge need not."""
        self._judge.believe(lane.shard)

    def fail(self, error: BaseException) -> None:
        """End :meth:`run` with this error."""
        if not self._failure.done():
            self._failure.set_result(error)

    # -- the way of a record

    async def _take_in(self, lane: Lane) -> None:
        await lane.fed.wait()
        resuming = self._resume(lane, lane.waiting.first)
        within = self.misplaced.within(lane.shard.shard_id)
        lane.waiting.beyond, lane.waiting.within = await asyncio.gather(resuming, within)
        while True:
            lane.fed.clear()
            before = lane.waiting.records
            fresh = lane.waiting.take(*self._room(lane))
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

    async def _enter(self, lane: Lane, fresh: Sequence[Record]) -> None:
        """Into the window, and to the batcher what has no outcome yet."""
        lane.window.extend(fresh)
        able = [record for record in fresh if record.outcome is None]
        for record in fresh if len(able) < len(fresh) else ():
            if isinstance(record.outcome, Dead) and record.outcome.kind == aggregate.KIND:
                self._metrics.dead_letter(record.outcome.kind)
        if able and self._judge.measures:
            await self._judge.measure(able)
            able = [record for record in able if record.outcome is None]
        self._batcher.add(lane, able, self._clock())
        if len(able) < len(fresh):
            self._release((lane,))
        self._wake.set()
        self._expect_nothing(lane)
        self._announce(but=lane)

    def _room(self, lane: Lane) -> tuple[int, int]:
        """Records and bytes that may be taken out of aggregates now. Half of the bytes is theirs in any case."""
        taken = sum([each.taken_bytes for each in self._lanes.values()])
        free = self._bounds.total_bytes - min(self._waiting_bytes, self._bounds.total_bytes // 2) - taken
        records = min(self._bounds.records_per_shard - len(lane.window), AT_A_TIME)
        return (records, free) if records > 0 and free > 0 else FULL

    async def _resume(self, lane: Lane, first: Record) -> Position | None:
        """What every sink already holds of this shard; to be skipped before it costs a prediction."""
        resuming = asyncio.gather(*(writer.resume(first, lane.checkpoint) for writer in lane.writers))
        positions, _ = await asyncio.gather(resuming, self._judge.recall(lane.shard, first))
        for sink, position in zip(self._sinks, positions, strict=True):
            if position is not None:
                self._durable(lane, sink.name, position)
        known = [position for position in positions if position is not None]
        return min(known) if len(known) == len(positions) else None

    async def _work(self) -> None:
        while True:
            batch, lanes = await self._next_batch()
            started = self._clock()
            await self._judge.settle(batch)
            self._metrics.batch(len(batch), self._clock() - started)
            self._out(-1)
            self._wake.set()
            for lane in lanes:
                lane.judging -= 1
            self._release(lanes)

    async def _next_batch(self) -> tuple[Sequence[Record], Sequence[Lane]]:
        async with self._turn:
            while True:
                self._wake.clear()
                now = self._clock()
                draining = any(lane.draining for lane in self._lanes.values())
                patience_s = self._patience_s()
                self._batcher.follow(self._plan())
                if batch := self._batcher.take(now, draining=draining, patience_s=patience_s):
                    self._metrics.queued(len(self._batcher))
                    return batch, self._begin(batch)
                due = self._batcher.due_at(patience_s)
                await self._woken(None if due is None else max(0.0, due - now))

    def _plan(self) -> Plan:
        """What is quickest, and fits into memory and the time-out."""
        plan = Plan() if self._pace is None else self._pace.plan
        return plan.within(self._judge.safe_cost)

    def _patience_s(self) -> float:
        """A batch that is not full waits no longer than it must, unless it would wait for a replica in any case, and
        shards that are behind will fill it."""
        busy = 2 * self._judging >= self._judge.slots
        return PATIENCE_S if busy and any(lane.lag_ms > BEHIND_MS for lane in self._lanes.values()) else 0.0

    async def _woken(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _begin(self, batch: Sequence[Record]) -> Sequence[Lane]:
        """The lanes that a batch is of; what is in the batcher is of lanes that are open."""
        lanes = [self._lanes[shard_id] for shard_id in dict.fromkeys(map(_SHARD_ID, batch))]
        for lane in lanes:
            lane.judging += 1
        self._out(+1)
        if self._pace is not None:
            self._pace.formed()
        return lanes

    def _out(self, more: int) -> None:
        """So many more batches are out."""
        self._judging += more
        self._metrics.at_work(self._judging, held=self.bytes >= self._bounds.total_bytes)

    def _release(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            if run := lane.window.release(keep_payloads=self._keeps_payloads):
                self._settled(lane, run)
        self._relieve()
        self._announce()

    def _settled(self, lane: Lane, run: Run) -> None:
        dead = list(map(type, map(_OUTCOME, run.records))).count(Dead)
        self._metrics.settled(lane.shard.shard_id, len(run.records) - dead, dead)
        if dead:
            self._note(run)
        passes = lane.gate.take(run, dead)
        if dead:
            self._tally.all_of(run.records)
            lane.gate.stop(self._tally)
        else:
            self._tally.rows(len(run.records))
        if dead or lane.gate:
            self._suspect()
        self._pass(lane, passes)
        self._expect_nothing(lane)

    def _pass(self, lane: Lane, run: Run | None) -> None:
        """To the sinks; unless the task has to end, and what it holds is not to become durable."""
        if lane.gate.stopped and not self.stopped:
            self.stopped = lane.gate.stopped
            self._metrics.stopped(self.stopped)
            self.fail(Fatal(self.stopped))
        if run is None or self.stopped:
            return
        lane.released.add(run.end, len(run.records))
        for writer in lane.writers:
            writer.write(run)

    def _expect_nothing(self, lane: Lane) -> None:
        """If records are held back and nothing is under way behind them, look again whether anything came."""
        if lane.gate and not lane.unsettled:
            asyncio.get_running_loop().call_later(HOLD_S, self._wait_no_more, lane, lane.gate.turn)

    def _wait_no_more(self, lane: Lane, turn: int) -> None:
        if self._lanes.get(lane.shard.shard_id) is not lane or lane.unsettled or lane.gate.turn != turn:
            return
        if lane.lag_ms > BEHIND_MS:
            self._expect_nothing(lane)
            return
        self._pass(lane, lane.gate.let_go())

    # -- dead letters

    def _note(self, run: Run) -> None:
        """In the log: the first of each sort, then counts."""
        if self._letters is None:
            return
        for record in run.records:
            if isinstance(record.outcome, Dead):
                line = self._letters.note(record, record.outcome, run.shard.stream)
                if line is not None:
                    log.warning("%s", line)
        if self._letters.waits and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(INTERVAL_S, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._letters is not None and self._letters.waits:
            log.warning("%s", self._letters.counts())

    def _suspect(self) -> None:
        """Whoever asks is told of what may yet end the task."""
        said = [line for lane in self._lanes.values() if (line := lane.gate.said())]
        if said:
            self._suspicion.failed("; ".join(said[:3]))
        else:
            self._suspicion.worked()

    def _durable(self, lane: Lane, sink: str, position: Position) -> None:
        if lane.durability.reached(sink, position) and (passed := lane.released.passed(position)):
            self._metrics.durable(lane.shard.shard_id, passed)
        self._announce()

    # -- bounds

    def _relieve(self) -> None:
        """Flush the fullest writer before its time when the sinks' backlog nears the bound of the task; hold back less
        when that is what fills it."""
        gates = [lane for lane in self._lanes.values() if lane.gate]
        if sum(lane.gate.bytes for lane in gates) >= HELD_SHARE * self._bounds.total_bytes:
            fullest_lane = max(gates, key=lambda lane: lane.gate.bytes)
            self._pass(fullest_lane, fullest_lane.gate.overflow())
        if self.bytes < RELIEVE_AT * self._bounds.total_bytes or (self._relief and not self._relief.done()):
            return
        writers = [writer for lane in self._lanes.values() for writer in lane.writers]
        fullest = max(writers, key=lambda writer: writer.backlog_bytes, default=None)
        if fullest is not None and fullest.backlog_bytes:
            self._relief = self._begin_work("the relief of a sink", fullest.flush)

    def _announce(self, but: Lane | None = None) -> None:
        """Room or durability may have changed for anyone: bounds are the task's. ``but`` knows of it."""
        for lane in self._lanes.values():
            lane.changed.set()
            if lane.waiting and lane is not but:
                lane.fed.set()

    def _begin_work(self, name: str, work: background.Work, *, endless: bool = False) -> asyncio.Task[None]:
        return background.start(work, name=name, on_failure=self.fail, endless=endless)
