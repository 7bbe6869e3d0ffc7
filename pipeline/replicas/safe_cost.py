"""How much a batch may cost after one did not fit into memory. Pure."""

from __future__ import annotations

# -- in the host

CREEP_PASSES = 64
"""How many batches near the limit must pass before it is raised by an eighth."""


class SafeCost:
    """Learns how much a batch may cost to fit into memory. Pure.

    A batch of several records that runs out of memory sets the limit to half its cost. The limit rises again while
    batches near it pass, and is dropped once it is back where it began. So a model with little memory settles near the
    size that fits, at the price of one failed try in a few hundred; and one large record among small ones does not slow
    down all later batches. A record that is tried alone says nothing about how many fit together.
    """

    def __init__(self) -> None:
        self.limit = 0
        """The most that a batch of several records may cost; 0: no limit is known."""
        self._failed = 0  # the largest cost that ran out of memory since there was no limit
        self._passes = 0

    def ran_out(self, records: int, cost: int) -> None:
        """A batch of ``records`` records with this cost ran out of memory."""
        if records < 2:
            return
        half = max(1, cost // 2)
        self.limit = min(self.limit or half, half)
        self._failed = max(self._failed, cost)
        self._passes = 0

    def passed(self, records: int, cost: int, *, after: bool = False) -> None:
        """A batch passed. ``after``: it is a part of a batch that ran out of memory, so the limit is not raised for
        it.
        """
        if after and records > 1 and cost > self.limit:
            self._raise(cost)
        elif cost * 2 >= self.limit:
            self._passes += 1
            if self._passes == CREEP_PASSES:
                self._raise(self.limit + max(1, self.limit // 8))

    def _raise(self, limit: int) -> None:
        if self.limit:
            self.limit, self._passes = limit, 0
        if limit >= self._failed:
            self.limit = self._failed = 0
