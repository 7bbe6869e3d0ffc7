"""What a model host reports about its work, for metrics. At most a few events for each predict call, none for each
record.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Predicted:
    """A predict call returned results. ``seconds``: in the replica, from bytes to rows.

    ``replica``: its number. ``cost``: the sum of its records' costs. ``padded``: its cost as a batch, see
    :func:`pipeline.record.cost_of`.
    """

    records: int
    seconds: float
    replica: int = 0
    cost: int = 0
    padded: int = 0


@dataclass(frozen=True, slots=True)
class Retried:
    """One more predict call than the batches need: a bisection, or a record tried alone.

    ``shards``: ids of the records' shards.
    """

    shards: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Records became dead letters. ``kind`` is one of :data:`pipeline.record.REASONS`."""

    kind: str
    records: int = 1


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A batch of this many records ran out of memory. It is halved."""

    records: int


@dataclass(frozen=True, slots=True)
class SafeCostLearned:
    """From now on, batches may cost at most this much, to fit into memory and time; 0: no limit."""

    cost: int


@dataclass(frozen=True, slots=True)
class ReplicaReplaced:
    """A replica ended (``reason``), and another one has taken its place."""

    reason: str


ModelEvent = Predicted | Retried | DeadLettered | OutOfMemory | SafeCostLearned | ReplicaReplaced
