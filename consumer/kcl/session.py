"""One shard, from ``initialize`` to its end: KCL's protocol on one side, the stage on the other.

KCL speaks first and waits: after ``processRecords``, ``shardEnded`` and ``shutdownRequested`` it takes checkpoints
until it gets a ``status``. So ``status`` means "go on", checkpoints ride in front of it, and withholding it is the
only back-pressure there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from consumer.kcl.bounded import RateLimit, ShardSlice
from consumer.kcl.checkpoint import CheckpointTracker
from consumer.kcl.protocol import (
    CheckpointAnswer,
    Initialize,
    LeaseLost,
    Message,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
    decode,
    encode_checkpoint,
    encode_status,
)
from consumer.kcl.stuck import SessionSnapshot
from consumer.leases.leases import as_kcl_has_it
from consumer.poison.doubts import Doubting, Reading, Unwatched
from pipeline import background
from pipeline.errors import Broken, Fatal
from pipeline.flow.lane import Lane, Milestones
from pipeline.metrics.records import RecordMetrics
from pipeline.record import Position, Record, Shard
from pipeline.retry import Retry
from pipeline.stage import Stage

log = logging.getLogger("session")

LAST_CHECKPOINT = Retry(0.25, tries=8)
"""Of a shard or a session, before the task ends for it: no later message will carry it."""

LOOK_AGAIN_S = 1.0
"""A sink may make room without getting further, as when it sends rows of other keys past one that is refused."""

CHECKPOINT_EVERY_S = 1.0
"""While a status is withheld. A checkpoint is a write to the lease table, and a sink may get on a hundred times a
second. Where no status is withheld, KCL sets the pace."""

AT_ONCE = 4
"""A session's first messages are answered at once, whatever room there is.

KCL's one scheduler thread wants a new shard's lock once more just after the shard has begun to be read, and another
thread holds that lock for as long as a status is withheld (``ShardConsumer.executeLifecycle``, ``handleInput``). Where
the scheduler comes second it stands still, and with it every other shard that is to begin, to drain or to be given up.
It gets the lock in the first pause between two messages, and that is when those read ahead have been handed out:
three, and one that waited for them (``maxPendingProcessRecordsInput``).
"""


class State(enum.Enum):
    """Where a shard session is in its life."""

    NEW = "new"
    READING = "reading"
    ENDED = "ended"
    DRAINED = "drained"
    LOST = "lost"


class Step(enum.Enum):
    """What a message makes a session do."""

    OPEN = "open"
    ADMIT = "admit"
    END = "end"
    DRAIN = "drain"
    DROP = "drop"


TRANSITIONS: dict[tuple[State, type[Message]], tuple[Step, State]] = {
    (State.NEW, Initialize): (Step.OPEN, State.READING),
    (State.READING, ProcessRecords): (Step.ADMIT, State.READING),
    (State.READING, ShardEnded): (Step.END, State.ENDED),
    (State.READING, ShutdownRequested): (Step.DRAIN, State.DRAINED),
    (State.READING, LeaseLost): (Step.DROP, State.LOST),
    (State.DRAINED, ShardEnded): (Step.END, State.ENDED),
    (State.DRAINED, LeaseLost): (Step.DROP, State.LOST),
    (State.LOST, LeaseLost): (Step.DROP, State.LOST),
    (State.LOST, ProcessRecords): (Step.DROP, State.LOST),
    (State.LOST, ShutdownRequested): (Step.DROP, State.LOST),
    (State.LOST, ShardEnded): (Step.DROP, State.LOST),
}
"""A shard's life. What follows LOST is a worker's that thaws: a checkpoint was refused before KCL knew, which has told
us of a drain or of the shard's end meanwhile. A pair that is not here is a bug, ours or KCL's: it ends the task."""

OVER = {State.ENDED, State.DRAINED, State.LOST}

RESPONSE_FOR: dict[type[Message], str] = {
    Initialize: "initialize",
    ProcessRecords: "processRecords",
    ShardEnded: "shardEnded",
    ShutdownRequested: "shutdownRequested",
    LeaseLost: "leaseLost",
}


class Gone(Exception):
    """The bridge is gone: the JVM ended, or it closed this child."""


class Wire(Protocol):
    """A bridge, seen from the host: lines in, lines out."""

    async def read(self) -> bytes:
        """The next line. Raises :class:`Gone` at the end."""
        ...

    async def write(self, line: bytes) -> None:
        """Send a line. Raises :class:`Gone` if nobody can read it any more."""
        ...


class ShardSession:
    """Drives one bridge. ``leaving`` is set once for the task: from then on no status is withheld."""

    def __init__(
        self,
        wire: Wire,
        stage: Stage,
        shard: Callable[[str], Shard],
        leaving: asyncio.Event,
        metrics: RecordMetrics,
        decoder: Callable[[bytes, Callable[[], Message]], Awaitable[Message]],
        *,
        doubts: Doubting | None = None,
        bounds: Callable[[str], ShardSlice | None] = lambda shard_id: None,
        rate: RateLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``bounds``: the stretch of each shard that is read; all of it by default. ``now``: epoch seconds."""
        self.state = State.NEW
        self.shard_id = ""
        self.began_after: Position | None = None
        """The checkpoint that it goes on from; None at a sentinel."""
        self.finished = asyncio.Event()
        self._wire = wire
        self._stage = stage
        self._shard = shard
        self._leaving = leaving
        self._metrics = metrics
        self._decoder = decoder
        self._doubts = doubts or Unwatched()
        self._reading: Reading = Unwatched()
        self._bounds = bounds
        self._slice: ShardSlice | None = None
        self._beyond = False
        self._rate = rate or RateLimit(0)
        self._held_until_s = float("-inf")
        self._now = now
        self._lane: Lane | None = None
        self._tracker = CheckpointTracker(None)
        self._delivered = Milestones()
        self._refused = False
        self._messages = 0
        self._clock = clock
        self._heard_s = clock()
        self._checkpointed_s = -CHECKPOINT_EVERY_S

    def look(self) -> SessionSnapshot:
        """Whether it gets on, for whoever watches for shards that are stuck."""
        lane = self._lane
        durable, unsettled, lag_ms = (lane.durable, lane.unsettled, lane.lag_ms) if lane is not None else (None, 0, 0)
        progress = (self.state, self._tracker.delivered, durable, unsettled)
        return SessionSnapshot(self.shard_id, progress, lag_ms, self._heard_s, unsettled)

    def lag_at(self, now: float) -> float:
        """How far it is behind, in ms."""
        return self.look().lag_at(now)

    def behind_s(self, now: float, wall_s: float) -> float:
        """The age of the oldest record that has not settled; where all have, how far the shard is read behind its tip.

        ``wall_s`` is the time of day, by which the age is told.
        """
        oldest_ms = self._lane.oldest_ms if self._lane is not None else None
        age_s = 0.0 if oldest_ms is None else wall_s - oldest_ms / 1000
        return max(0.0, age_s, self.lag_at(now) / 1000)

    def counts(self) -> dict[str, int]:
        """``unsettled``: records that it was handed and that have no row or dead letter yet; ``lag_ms`` as KCL told."""
        return {"unsettled": self._lane.unsettled, "lag_ms": self._lane.lag_ms} if self._lane is not None else {}

    @property
    def hears(self) -> bool:
        """KCL has read the shard, and handed on what it found, be it nothing."""
        return self._messages > 0

    @property
    def over(self) -> bool:
        """Nothing more will come of this session: its shard is drained, ended or lost."""
        return self.state in OVER

    @property
    def passed(self) -> bool:
        """The shard is read to the end of its stretch, and all of it is checkpointed."""
        return self._beyond and self._tracker.settled

    async def run(self) -> None:
        """Until the bridge goes. Whatever was not durable then is another session's to read again."""
        try:
            while True:
                await self._step(await self._next())
        except Gone:
            log.debug("bridge of %s closed in state %s", self.shard_id or "a new shard", self.state.value)
        finally:
            self.finished.set()
            if self._lane is not None:
                self._stage.abandon(self._lane)

    async def _next(self) -> Message:
        line = await self._wire.read()
        self._heard_s = self._clock()
        return await self._decoder(line, lambda: decode(line, self.shard_id))

    async def _step(self, message: Message) -> None:
        try:
            step, state = TRANSITIONS[self.state, type(message)]
        except KeyError:
            what, where = type(message).__name__, self.shard_id or "a new shard"
            raise Broken(f"{where}: {what} makes no sense in state {self.state.value}") from None
        match message:
            case Initialize():
                if not await self._begin(message):
                    return
                self._open(message)
            case ProcessRecords() if step is Step.ADMIT:
                await self._admit(message)
            case ShardEnded() if step is Step.END:
                await self._end()
            case ShutdownRequested() if step is Step.DRAIN:
                await self._drain()
            case _:
                self._drop("lease lost")
        if self.state is not State.LOST:
            self.state = state
        if self.over:
            await self._reading.ended()
        await self._wire.write(encode_status(RESPONSE_FOR[type(message)]))
        if self.over:
            self.finished.set()

    # -- steps

    async def _begin(self, message: Initialize) -> bool:
        """Whether the shard may be read as ever. If not, KCL never gets its status: it hands over no record of a shard
        that has not begun, and its JVM ends soon."""
        if self._leaving.is_set():
            return True
        reading = await self._doubts.begin(message.shard_id)
        if reading is None:
            self.shard_id, self.state = message.shard_id, State.LOST
            self.finished.set()
            return False
        self._reading = reading
        return True

    def _open(self, message: Initialize) -> None:
        self.shard_id = message.shard_id
        self.began_after = message.checkpoint
        checkpoint = message.checkpoint and message.checkpoint.end_of_record
        self._tracker = CheckpointTracker(checkpoint)
        self._lane = self._stage.open(self._shard(message.shard_id), checkpoint)
        self._lane.before_entry = self._reading.meets
        self._slice = self._bounds(message.shard_id)
        log.info("%s starts after %s", self.shard_id, message.checkpoint or message.sentinel)

    async def _admit(self, message: ProcessRecords) -> None:
        lane = self._open_lane()
        records = self._of_slice(message)
        beyond = self._slice is not None and self._slice.beyond
        if message.millis_behind is not None:
            lane.lag_ms = 0 if beyond else message.millis_behind
            self._metrics.lag(self.shard_id, lane.lag_ms)
        end = records[-1].last if records else None
        await self._reading.takes(end, message.millis_behind)
        if self._leaving.is_set():
            self._refused = self._refused or bool(records)
        else:
            if records:
                self._deliver(lane, records)
            self._beyond = beyond
        await self._checkpoint_if_due()
        self._messages += 1
        if self._messages > AT_ONCE and self._must_wait(lane):
            if self._beyond:
                await self._finish_slice(lane)
            await self._room(lane)

    def _of_slice(self, message: ProcessRecords) -> Sequence[Record]:
        if self._slice is None:
            return message.records
        return self._slice.take(message.records, message.millis_behind, 1000 * self._now())

    def _deliver(self, lane: Lane, records: Sequence[Record]) -> None:
        before = lane.unsettled
        self._stage.admit(lane, records)
        self._held_until_s = self._rate.take(lane.unsettled - before, self._clock())
        self._tracker.deliver(records)
        if self._tracker.delivered is not None:
            self._delivered.add(self._tracker.delivered, lane.unsettled - before)

    def _must_wait(self, lane: Lane) -> bool:
        if self.state is not State.READING or self._leaving.is_set():
            return False
        return self._beyond or not self._stage.has_room(lane) or self._clock() < self._held_until_s

    async def _finish_slice(self, lane: Lane) -> None:
        """What was delivered is made durable and checkpointed now: nothing follows that would."""
        await background.first_of(partial(self._stage.end, lane), self._leaving.wait)
        await self._checkpoint_if_due()

    async def _end(self) -> None:
        """Everything durable, then the end of the shard is checkpointed with nulls: nothing else writes SHARD_END."""
        lane = self._open_lane()
        if self._refused:
            await self._drain()
            return
        await self._stage.end(lane)
        if not self._tracker.covers_all(lane.durable):
            raise Broken(f"{self.shard_id}: drained to {lane.durable}, though {self._tracker.delivered} was delivered")
        await self._checkpoint_surely(None)
        if self.state is not State.LOST:
            log.info("%s ended", self.shard_id)
            self._close()

    async def _drain(self) -> None:
        """What the model has begun is finished and checkpointed; the rest was not read, as far as KCL knows."""
        lane = self._open_lane()
        await self._stage.drain(lane)
        if position := self._tracker.due(lane.durable):
            await self._checkpoint_surely(position)
        log.info("%s drained to %s", self.shard_id, lane.durable)

    def _drop(self, reason: str) -> None:
        if self.state is not State.LOST and self._lane is not None:
            log.info("%s dropped: %s", self.shard_id, reason)
        self._close()
        self.state = State.LOST

    def _close(self) -> None:
        if self._lane is not None:
            self._stage.abandon(self._lane)
            self._lane = None

    def _open_lane(self) -> Lane:
        if self._lane is None:
            raise Broken(f"{self.shard_id}: no open lane in state {self.state.value}")
        return self._lane

    async def _room(self, lane: Lane) -> None:
        """Return when there is room, or the task is leaving, or the lease is lost. Checkpoints go on meanwhile."""

        async def tell() -> None:
            await self._leaving.wait()
            lane.changed.set()

        leaving = background.start(tell, name=f"the wait of {self.shard_id}", on_failure=self._stage.fail)
        try:
            while self._must_wait(lane):
                lane.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_again_s()):
                        await lane.changed.wait()
                if self._clock() - self._checkpointed_s >= CHECKPOINT_EVERY_S:
                    await self._checkpoint_if_due()
        finally:
            leaving.cancel()

    def _look_again_s(self) -> float:
        held_s = self._held_until_s - self._clock()
        return min(LOOK_AGAIN_S, held_s) if held_s > 0 else LOOK_AGAIN_S

    # -- checkpoints

    async def _checkpoint_if_due(self) -> None:
        lane = self._open_lane()
        if position := self._tracker.due(lane.durable):
            await self._checkpoint(position)

    async def _checkpoint_surely(self, position: Position | None) -> None:
        """The last one: retried here, since no later beat will carry it."""

        async def done() -> bool:
            return await self._checkpoint(position) or self.state is State.LOST

        if not await LAST_CHECKPOINT.until(done):
            raise Fatal(f"{self.shard_id}: the last checkpoint was refused {LAST_CHECKPOINT.tries} times")

    async def _checkpoint(self, position: Position | None) -> bool:
        """Send one and take its answer; true if it was accepted. A shutdown in the answer is a lost lease."""
        self._checkpointed_s = self._clock()
        await self._wire.write(encode_checkpoint(position and as_kcl_has_it(position)))
        answer = await self._next()
        if not isinstance(answer, CheckpointAnswer):
            raise Broken(f"{self.shard_id}: {type(answer).__name__} came where a checkpoint's answer was due")
        if answer.error is None:
            self._accepted(position)
            if self._tracker.accepted is not None:
                await self._reading.checkpointed(self._tracker.accepted)
            return True
        self._metrics.checkpoint_failed(self.shard_id)
        log.warning("%s: checkpoint at %s refused: %s", self.shard_id, position or "the end", answer.error)
        if answer.error == "ShutdownException":
            self._drop("its checkpoint was refused, another worker has the lease")
        elif answer.error == "InvalidStateException":
            raise Fatal(f"{self.shard_id}: KCL cannot checkpoint (InvalidStateException): is the lease table there?")
        return False

    def _accepted(self, position: Position | None) -> None:
        position = position or self._tracker.delivered
        if position is not None:
            self._tracker.accept(position)
            self._stage.checkpointed(self._open_lane())
            self._metrics.checkpointed(self.shard_id, self._delivered.passed(position))
