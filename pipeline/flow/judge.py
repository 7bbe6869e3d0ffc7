"""What the stage asks of whoever settles records: a model host, or a fake of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.record import Record, Shard


class Judge(Protocol):
    """What the stage asks of a model host; see :class:`pipeline.replicas.host.ModelHost` and
    :class:`pipeline.replicas.crash_journal.JournaledHost`."""

    @property
    def slots(self) -> int:
        """How many calls of :meth:`settle` are of use at once. Half of them are worked on, the others are next."""
        ...

    @property
    def measures(self) -> bool:
        """Whether records have a cost, which :meth:`measure` finds out."""
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

    async def recall(self, shard: Shard, first: Record) -> None:
        """Before the first record of a session is judged: what is known of the shard's records from there on?"""
        ...

    def believe(self, shard: Shard) -> None:
        """A checkpoint of the shard was taken: it has got on."""
        ...
