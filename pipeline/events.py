"""What a model host tells about its work, for whoever counts it. At most a few per predict call, none per record."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Predicted:
    """A predict call came back with results. ``seconds``: inside the replica, from bytes to rows.

    ``cost``: the sum of its records' costs. ``padded``: what it cost as a batch, see :func:`pipeline.record.cost_of`.
    """

    records: int
    seconds: float
    replica: int = 0
    cost: int = 0
    padded: int = 0


@dataclass(frozen=True, slots=True)
class Retried:
    """Predict was called once more than batches would need: a bisection, or a record tried alone.

    ``shards``: of the records that it was called with.
    """

    shards: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Condemned:
    """Records became dead letters. ``kind`` is one of :data:`pipeline.record.REASONS`."""

    kind: str
    records: int = 1


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A batch of so many records did not fit into memory; it is halved."""

    records: int


@dataclass(frozen=True, slots=True)
class SafeCostLearned:
    """Batches may cost at most so much from now on, so that they fit into memory and time; 0: no limit known."""

    cost: int


@dataclass(frozen=True, slots=True)
class ReplicaReplaced:
    """A replica ended (``reason``), and another one serves in its place."""

    reason: str


ModelEvent = Predicted | Retried | Condemned | OutOfMemory | SafeCostLearned | ReplicaReplaced
