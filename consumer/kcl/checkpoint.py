"""Which checkpoint may be sent, and when. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pipeline.aggregate import aggregates_in
from pipeline.record import Position, Record


class CheckpointTracker:
    """The checkpoint of one shard session.

    KCL accepts a checkpoint only between the last one and the largest position that it has delivered
    (``RecordProcessorCheckpointer`` of MultiLang). Ours moves only to positions that are durable in every sink. A
    durable position beyond what was delivered (a file that an earlier owner committed) waits until it is delivered.

    A checkpoint is never within an aggregate, even if the durable position is: KCL continues *after* the sequence
    number of the checkpoint, so the rest of the aggregate would be lost. KCL treats an aggregate as one record, so the
    sub-sequence number that it gets is 0 (:func:`consumer.leases.leases.as_kcl_has_it`).
    """

    def __init__(self, start: Position | None) -> None:
        self.accepted = start
        self.delivered: Position | None = None
        self._aggregates: deque[tuple[Position | None, Position]] = deque()
        """Aggregates that are delivered and not checkpointed: the last position before each, and its own last one."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Take in the next records that KCL has delivered."""
        for place in aggregates_in(records):
            before = records[place - 1].last if place else self.delivered
            self._aggregates.append((before, records[place].last))
        if records:
            self.delivered = records[-1].last

    def due(self, durable: Position | None) -> Position | None:
        """Return the position to send now, or None. ``durable``: everything up to there is durable."""
        if durable is None or self.delivered is None or durable > self.delivered:
            return None
        whole = self._whole(durable)
        return whole if whole is not None and (self.accepted is None or whole > self.accepted) else None

    def accept(self, position: Position) -> None:
        """Take in that KCL has accepted this checkpoint."""
        self.accepted = position
        while self._aggregates and self._aggregates[0][1] <= position:
            self._aggregates.popleft()

    @property
    def settled(self) -> bool:
        """Everything delivered so far is checkpointed."""
        return self.delivered is None or (self.accepted is not None and self.accepted >= self.delivered)

    def covers_all(self, durable: Position | None) -> bool:
        """Whether everything delivered is durable. Only then may the end of the shard be checkpointed."""
        return self.delivered is None or (durable is not None and durable >= self.delivered)

    def _whole(self, durable: Position) -> Position | None:
        """The last position up to ``durable`` that is not within an aggregate."""
        for before, last in self._aggregates:
            if durable.sequence < last.sequence:
                break
            if durable.sequence == last.sequence:
                return last if durable >= last else before
        return durable
