"""One shard, from ``initialize`` to its end: KCL's protocol on one side, the stage on the other.

KCL sends a message and waits. After ``processRecords``, ``shardEnded`` and ``shutdownRequested`` it accepts checkpoints
until it gets a ``status``. So ``status`` means "continue", checkpoints are sent before it, and withholding it is the
only back-pressure that KCL has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from consumer.kcl.bounded import RateLimit, ShardSlice
from consumer.kcl.protocol import (
    Initialize,
    Message,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
    decode,
    encode_status,
)
from consumer.kcl.session_checkpoints import LAST_CHECKPOINT, Answered, SessionCheckpoints
from consumer.kcl.session_snapshot import SessionSnapshot
from consumer.kcl.session_states import OVER, RESPONSE_FOR, TRANSITIONS, SessionState, Step
from consumer.kcl.wire import Gone, Wire
from consumer.poison.session_notes import Doubting, Reading, Unwatched
from pipeline import background
from pipeline.errors import Broken, Fatal
from pipeline.flow.lane import Lane
from pipeline.metrics.records import RecordMetrics
from pipeline.record import Position, Record, Shard
from pipeline.stage import Stage

log = logging.getLogger("session")

LOOK_AGAIN_S = 1.0
"""Seconds after which a waiting session checks for room again. A sink may make room without a change of the durable
position, for example if it sends rows of other keys past a refused one."""

AT_ONCE = 4
"""The number of first messages of a session that are answered at once, even without room.

The single scheduler thread of KCL needs the lock of a new shard again just after the first read, and another thread
holds that lock while a status is withheld (``ShardConsumer.executeLifecycle``, ``handleInput``). If the scheduler has
to wait, it blocks every other shard that starts, drains or is given up. It gets the lock in the first pause between two
messages, after the messages that were read ahead: three, and one that waited for them
(``maxPendingProcessRecordsInput``).
"""


class ShardSession:
    """Drives one bridge. ``leaving`` is shared by all sessions; once it is set, no status is withheld."""

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
        """``bounds`` returns the slice of a shard to read, or None for all of it. ``now``: seconds since the epoch."""
        self.state = SessionState.NEW
        self.shard_id = ""
        self.began_after: Position | None = None
        """The checkpoint that it continues from; None for a sentinel."""
        self.began = ""
        """The same as text, or the sentinel; empty until KCL has named the shard."""
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
        self._checkpoints = SessionCheckpoints(wire, self._next, metrics, clock)
        self._refused = False
        self._messages = 0
        self._clock = clock
        self._heard_s = clock()

    def look(self) -> SessionSnapshot:
        """Return the present state of the session."""
        lane = self._lane
        progress = (self.state, self._checkpoints.tracker.delivered)
        if lane is None:
            return SessionSnapshot(self.shard_id, progress, 0, self._heard_s, 0, is_open=False)
        return SessionSnapshot(
            self.shard_id,
            (*progress, lane.durable, lane.unsettled),
            lane.lag_ms,
            self._heard_s,
            lane.unsettled,
            held_bytes=lane.bytes,
            oldest_ms=lane.oldest_ms,
            accepted_s=self._checkpoints.accepted_s,
        )

    def lag_at(self, now: float) -> float:
        """Return the lag in milliseconds; see :meth:`consumer.kcl.session_snapshot.SessionSnapshot.lag_at`."""
        return self.look().lag_at(now)

    @property
    def hears(self) -> bool:
        """Whether KCL has read the shard and sent a message, even an empty one."""
        return self._messages > 0

    @property
    def over(self) -> bool:
        """Whether the session is finished: its shard is drained, ended or lost."""
        return self.state in OVER

    @property
    def reached_ms(self) -> float | None:
        """Until when the slice of the shard is read, by time of arrival; None if unknown."""
        return self._slice.reached_ms if self._slice is not None else None

    @property
    def passed(self) -> bool:
        """Whether the slice of the shard has been read to its end, and all of it is checkpointed."""
        return self._beyond and self._checkpoints.tracker.settled

    async def run(self) -> None:
        """Run until the bridge disconnects. A later session reads again what was not durable by then.

        :raises PenstockError: for errors that must end the task.
        """
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
            raise Broken(f"{where}: KCL sent {what} in state {self.state.value}") from None
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
        if self.state is not SessionState.LOST:
            self.state = state
        if self.over:
            await self._reading.ended()
        await self._wire.write(encode_status(RESPONSE_FOR[type(message)]))
        if self.over:
            self.finished.set()

    # -- steps

    async def _begin(self, message: Initialize) -> bool:
        """Whether the shard may be read as usual. Otherwise KCL never gets the status: it delivers no record of a shard
        that is not initialized, and the task ends its JVM soon."""
        if self._leaving.is_set():
            return True
        reading = await self._doubts.begin(message.shard_id)
        if reading is None:
            self.shard_id, self.state = message.shard_id, SessionState.LOST
            self.finished.set()
            return False
        self._reading = reading
        return True

    def _open(self, message: Initialize) -> None:
        self.shard_id = message.shard_id
        self.began_after = message.checkpoint
        self.began = str(message.checkpoint or message.sentinel)
        checkpoint = message.checkpoint and message.checkpoint.end_of_record
        self._checkpoints.begin(self.shard_id, checkpoint)
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
        self._checkpoints.deliver(records, lane.unsettled - before)

    def _must_wait(self, lane: Lane) -> bool:
        if self.state is not SessionState.READING or self._leaving.is_set():
            return False
        return self._beyond or not self._stage.has_room(lane) or self._clock() < self._held_until_s

    async def _finish_slice(self, lane: Lane) -> None:
        """Make what was delivered durable and checkpoint it now: no later message would cause it."""
        await background.first_of(partial(self._stage.end, lane), self._leaving.wait)
        await self._checkpoint_if_due()

    async def _end(self) -> None:
        """Make everything durable, then checkpoint the end of the shard with nulls. Only this writes SHARD_END."""
        lane = self._open_lane()
        if self._refused:
            await self._drain()
            return
        await self._stage.end(lane)
        if not self._checkpoints.tracker.covers_all(lane.durable):
            raise Broken(
                f"{self.shard_id}: drained to {lane.durable or 'no record'}, "
                f"but {self._checkpoints.tracker.delivered} was delivered"
            )
        await self._checkpoint_surely(None)
        if self.state is not SessionState.LOST:
            log.info("%s ended", self.shard_id)
            self._close()

    async def _drain(self) -> None:
        """Finish and checkpoint what has been sent to the model. The next owner reads the rest."""
        lane = self._open_lane()
        await self._stage.drain(lane)
        if position := self._checkpoints.tracker.due(lane.durable):
            await self._checkpoint_surely(position)
        log.info(
            "%s drained %s", self.shard_id, f"to {lane.durable}" if lane.durable else "before any record was durable"
        )

    def _drop(self, reason: str) -> None:
        if self.state is not SessionState.LOST and self._lane is not None:
            log.info("%s dropped: %s", self.shard_id, reason)
        self._close()
        self.state = SessionState.LOST

    def _close(self) -> None:
        if self._lane is not None:
            self._stage.abandon(self._lane)
            self._lane = None

    def _open_lane(self) -> Lane:
        if self._lane is None:
            raise Broken(f"{self.shard_id}: no open lane in state {self.state.value}")
        return self._lane

    async def _room(self, lane: Lane) -> None:
        """Wait until there is room, the task leaves, or the lease is lost. Checkpoints continue meanwhile."""

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
                if self._checkpoints.may_be_sent:
                    await self._checkpoint_if_due()
        finally:
            leaving.cancel()

    def _look_again_s(self) -> float:
        held_s = self._held_until_s - self._clock()
        return min(LOOK_AGAIN_S, held_s) if held_s > 0 else LOOK_AGAIN_S

    # -- checkpoints

    async def _checkpoint_if_due(self) -> None:
        lane = self._open_lane()
        if position := self._checkpoints.tracker.due(lane.durable):
            await self._checkpoint(position)

    async def _checkpoint_surely(self, position: Position | None) -> None:
        """Send the last checkpoint. It is retried here, because no later message follows."""

        async def done() -> bool:
            return await self._checkpoint(position) or self.state is SessionState.LOST

        if not await LAST_CHECKPOINT.until(done):
            raise Fatal(f"{self.shard_id}: the last checkpoint was refused {LAST_CHECKPOINT.tries} times")

    async def _checkpoint(self, position: Position | None) -> bool:
        """Send a checkpoint and return whether KCL accepted it."""
        answered = await self._checkpoints.send(position)
        if answered is Answered.LOST:
            self._drop("its checkpoint was refused because another worker has the lease")
        if answered is not Answered.ACCEPTED:
            return False
        tracker = self._checkpoints.tracker
        if position is not None or tracker.delivered is not None:
            self._stage.checkpointed(self._open_lane())
        if tracker.accepted is not None:
            await self._reading.checkpointed(tracker.accepted)
        return True
