"""The checkpoints of a session: sends them to KCL, and takes in its answers."""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Sequence

from consumer.kcl.checkpoint import CheckpointTracker
from consumer.kcl.protocol import CheckpointAnswer, Message, encode_checkpoint
from consumer.kcl.wire import Wire
from consumer.leases.leases import as_kcl_has_it
from pipeline.errors import Broken, Fatal
from pipeline.flow.lane import Milestones
from pipeline.metrics.records import RecordMetrics
from pipeline.record import Position, Record
from pipeline.retry import Retry

log = logging.getLogger("session")

LAST_CHECKPOINT = Retry(0.25, tries=8)
"""Retries of the last checkpoint of a shard or a session. After them the task ends: there is no later message for
it."""

CHECKPOINT_EVERY_S = 1.0
"""Seconds between checkpoints while a status is withheld. A checkpoint is a write to the lease table, and the durable
position may change a hundred times a second. Otherwise KCL's messages set the pace."""


class Answered(enum.Enum):
    """What KCL answered to a checkpoint. ``LOST``: another worker has the lease."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()


class SessionCheckpoints:
    """The checkpoints of one session. ``tracker`` says which may be sent."""

    def __init__(
        self,
        wire: Wire,
        answer: Callable[[], Awaitable[Message]],
        metrics: RecordMetrics,
        clock: Callable[[], float],
    ) -> None:
        """``answer`` reads KCL's next message."""
        self.tracker = CheckpointTracker(None)
        self._shard_id = ""
        self._wire = wire
        self._answer = answer
        self._metrics = metrics
        self._clock = clock
        self._delivered = Milestones()
        self._sent_s = -CHECKPOINT_EVERY_S
        self.accepted_s: float | None = None
        """When KCL last accepted one, by ``clock``."""

    def begin(self, shard_id: str, start: Position | None) -> None:
        """The session is for this shard, whose checkpoint is ``start``."""
        self._shard_id = shard_id
        self.tracker = CheckpointTracker(start)

    def deliver(self, records: Sequence[Record], count: int) -> None:
        """Take in what KCL has delivered. ``count``: how many of the records are counted when they are checkpointed."""
        self.tracker.deliver(records)
        if self.tracker.delivered is not None:
            self._delivered.add(self.tracker.delivered, count)

    @property
    def may_be_sent(self) -> bool:
        """Whether enough time has passed since the last one."""
        return self._clock() - self._sent_s >= CHECKPOINT_EVERY_S

    async def send(self, position: Position | None) -> Answered:
        """Send a checkpoint and take in the answer. None: the end of the shard.

        :raises Fatal: KCL cannot checkpoint.
        """
        self._sent_s = self._clock()
        await self._wire.write(encode_checkpoint(position and as_kcl_has_it(position)))
        answer = await self._answer()
        if not isinstance(answer, CheckpointAnswer):
            raise Broken(f"{self._shard_id}: KCL sent {type(answer).__name__} instead of the answer to a checkpoint")
        if answer.error is None:
            self._accepted(position or self.tracker.delivered)
            return Answered.ACCEPTED
        self._metrics.checkpoint_failed(self._shard_id)
        log.warning("%s: checkpoint at %s refused: %s", self._shard_id, position or "the end", answer.error)
        if answer.error == "InvalidStateException":
            raise Fatal(
                f"{self._shard_id}: KCL cannot checkpoint (InvalidStateException). Check that the lease table exists"
            )
        return Answered.LOST if answer.error == "ShutdownException" else Answered.REFUSED

    def _accepted(self, position: Position | None) -> None:
        self.accepted_s = self._clock()
        if position is not None:
            self.tracker.accept(position)
            self._metrics.checkpointed(self._shard_id, self._delivered.passed(position))
