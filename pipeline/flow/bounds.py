"""How much a task may hold, and how much of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.flow.lane import Lane
from pipeline.metrics.in_flight import Load
from pipeline.sinks import ShardWriter

AT_A_TIME = 4_096
"""How many user records are taken out of aggregates before other lanes have their turn."""

HELD_SHARE = 0.5
"""Share of the memory bound that records held back as suspicious may use."""

RELIEVE_AT = 0.75
"""Share of the memory bound from which the fullest sink writer is flushed early."""

FULL = (0, 0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """``records_per_shard``: records admitted and not yet settled. ``total_bytes``: of these and the sinks' backlog, in
    the whole task.

    A shard below its bounds may admit one more message, and a session its first four in any case; so the true maximum
    is higher by that much for each shard. Aggregates are admitted whole and count with the memory that they use; they
    are taken apart as far as there is room.
    """

    records_per_shard: int
    total_bytes: int


class Room:
    """How much of its :class:`Bounds` a task's open lanes use. ``lanes``: by shard id; their owner changes it."""

    def __init__(self, bounds: Bounds, lanes: Mapping[str, Lane]) -> None:
        self._bounds = bounds
        self._lanes = lanes

    @property
    def bytes(self) -> int:
        """Bytes that the whole task holds: waiting, in the windows, and taken by sinks but not durable."""
        return sum([lane.bytes for lane in self._lanes.values()])

    @property
    def full(self) -> bool:
        """Whether the task holds as many bytes as it may."""
        return self.bytes >= self._bounds.total_bytes

    @property
    def _waiting_bytes(self) -> int:
        return sum([lane.waiting.bytes for lane in self._lanes.values()])

    def in_flight(self) -> dict[str, Load]:
        """What each shard holds."""
        return {
            shard_id: Load(lane.unsettled, lane.bytes, lane.not_durable, lane.oldest_not_durable_ms)
            for shard_id, lane in self._lanes.items()
        }

    def for_message(self, lane: Lane) -> bool:
        """Whether a lane may admit one more message. Aggregates that are not taken apart may use half of the bytes,
        so that there is room to take them apart.
        """
        bounds = self._bounds
        return (
            lane.unsettled < bounds.records_per_shard
            and self.bytes < bounds.total_bytes
            and self._waiting_bytes < bounds.total_bytes / 2
        )

    def for_user_records(self, lane: Lane) -> tuple[int, int]:
        """How many records and bytes may be taken out of aggregates now; half of the bytes is reserved for them."""
        taken = sum([each.taken_bytes for each in self._lanes.values()])
        free = self._bounds.total_bytes - min(self._waiting_bytes, self._bounds.total_bytes // 2) - taken
        records = min(self._bounds.records_per_shard - len(lane.window), AT_A_TIME)
        return (records, free) if records > 0 and free > 0 else FULL

    def holds_back_too_much(self) -> Lane | None:
        """The lane that holds back most, if all lanes together hold back more than :data:`HELD_SHARE`; else None."""
        gates = [lane for lane in self._lanes.values() if lane.gate]
        if sum(lane.gate.bytes for lane in gates) < HELD_SHARE * self._bounds.total_bytes:
            return None
        return max(gates, key=lambda lane: lane.gate.bytes)

    def fullest_writer(self) -> ShardWriter | None:
        """The sink writer with the largest backlog, if the task's bytes exceed :data:`RELIEVE_AT`; else None."""
        if self.bytes < RELIEVE_AT * self._bounds.total_bytes:
            return None
        writers = [writer for lane in self._lanes.values() for writer in lane.writers]
        fullest = max(writers, key=lambda writer: writer.backlog_bytes, default=None)
        return fullest if fullest is not None and fullest.backlog_bytes else None
