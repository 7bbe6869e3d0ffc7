"""What settles records: a model host, one with a journal of crashes, or a fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.record import Record, Shard


class Settler(Protocol):
    """Settles records: :class:`pipeline.replicas.host.ModelHost`."""

    @property
    def slots(self) -> int:
        """How many calls of :meth:`settle` may usefully run at once: half of them are in work, the others are next."""
        ...

    @property
    def measures(self) -> bool:
        """Whether records have a cost, which :meth:`measure` sets."""
        ...

    @property
    def safe_cost(self) -> int:
        """The highest cost of a batch that fits into memory and the time-out; 0: no limit is known."""
        ...

    async def measure(self, records: Sequence[Record]) -> None:
        """Set the cost of each record. A record that cannot be measured is settled as a dead letter."""
        ...

    async def settle(self, records: Sequence[Record]) -> None:
        """Return once each record has an outcome: a row or a dead letter."""
        ...


class Judge(Settler, Protocol):
    """What the stage needs: a settler that remembers across tasks, as
    :class:`pipeline.replicas.journaled_host.JournaledHost` does.
    """

    async def recall(self, shard: Shard, first: Record) -> None:
        """Called before the first record of a session is judged: read what is known of the shard's records from
        there on.
        """
        ...

    def trust(self, shard: Shard) -> None:
        """A checkpoint of the shard was written: it makes progress."""
        ...
