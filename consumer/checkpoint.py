"""Which checkpoint may be sent, and when. Pure."""

from __future__ import annotations

from pipeline.record import Position


class CheckpointTracker:
    """The checkpoint of one shard session.

    KCL accepts a checkpoint only between the last one and the largest position it has delivered
    (MultiLang's ``RecordProcessorCheckpointer``); ours moves only to what is durable in every sink. A durable
    position beyond what was delivered (a file that an earlier owner committed) waits until delivery has caught up.
    """

    def __init__(self, start: Position | None) -> None:
        self.accepted = start
        self.delivered: Position | None = None

    def due(self, durable: Position | None) -> Position | None:
        """The position to send now, or None."""
        if durable is None or self.delivered is None or durable > self.delivered:
            return None
        if self.accepted is not None and durable <= self.accepted:
            return None
        return durable

    def covers_all(self, durable: Position | None) -> bool:
        """Whether everything delivered so far is durable; only then may the end of the shard be checkpointed."""
        return self.delivered is None or (durable is not None and durable >= self.delivered)
