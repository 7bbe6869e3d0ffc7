"""How much a batch may cost once one did not fit into memory. Pure."""

from __future__ import annotations

# -- in the host

CREEP_PASSES = 64
"""So many batches near the limit must pass before it is raised by an eighth."""


class SafeCost:
    """How much a batch may cost so that it fits into memory, as far as batches have told. Pure.

    A batch of several records that ran out of memory halves it. It creeps up again while batches that use it pass, and
    is forgotten once it is where it began. So a model whose memory is short settles near what fits, at the price of a
    try in a few hundred, and one large record among small ones is not paid for by all who come later. A record that is
    tried alone teaches nothing about how many may go together.
    """

    def __init__(self) -> None:
        self.limit = 0
        """The most that a batch of several records may cost; 0: nothing is known."""
        self._failed = 0  # the largest cost that ran out since nothing was known
        self._passes = 0

    def ran_out(self, records: int, cost: int) -> None:
        if records < 2:
            return
        half = max(1, cost // 2)
        self.limit = min(self.limit or half, half)
        self._failed = max(self._failed, cost)
        self._passes = 0

    def passed(self, records: int, cost: int, *, after: bool = False) -> None:
        """``after``: it is of a batch that ran out, tried by parts, and so tells that it is not too large."""
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
