"""How large a batch may be to end before ``model.timeout_s``. Pure.

A time-out costs one call for each record of the batch, and a new load of the model; so the host must learn from it.
"""

from __future__ import annotations

SHARE = 0.8
"""Share of the time-out that batches are planned for: machines have slow moments."""

QUICK = 0.25
"""Records that alone take less than this share of the time-out tell how many fit. For slower ones, most of the time
may be the call itself; then the limit is found by halving.
"""

LEAST_SINGLES = 3
"""How many records must have passed alone before their time is used."""

CREEP_PASSES = 8
"""After this many batches near the limit it is raised by a quarter, if a batch of that size should be in time."""


class SafeTime:
    """Learns what a batch may cost to be in time. Costs are numbers of records if the model measures none.

    A batch of several records that times out halves the limit. The time of its records alone then lowers the limit to
    what should take :data:`SHARE` of the time-out. If one of them times out alone while the others together are in
    time, that record was the cause, and the halving is undone. The limit rises while batches near it are expected to
    stay below that share, and is dropped once it is back where it began.
    """

    def __init__(self, timeout_s: float) -> None:
        self.limit = 0
        """The most that a batch of several records may cost; 0: no limit is known."""
        self._most_s = SHARE * timeout_s
        self._quick_s = QUICK * timeout_s
        self._failed = 0  # the largest cost that timed out since there was no limit
        self._before = 0  # the limit before the last batch that timed out; and half of that batch
        self._half = 0
        self._asks = False  # whether the last batch that timed out is being tried in parts
        self._guilty = False
        self._singles, self._singles_s, self._singles_cost = 0, 0.0, 0
        self._slowest: tuple[float, int] = (0.0, 0)
        self._passes = 0

    def expect(self, record_s: float, most: int) -> None:
        """Set the limit before the first batch: one record takes ``record_s``, and batches may cost up to ``most``."""
        if record_s * most > self._most_s:
            self.limit, self._failed = max(1, int(self._most_s / record_s)), most
            self._singles, self._singles_s, self._singles_cost = LEAST_SINGLES, LEAST_SINGLES * record_s, LEAST_SINGLES

    def timed_out(self, records: int, cost: int) -> None:
        """A try of ``records`` records with this cost timed out."""
        if records < 2:
            self._guilty = self._asks
            self._ask()
            return
        if not self._asks:
            self._before, self._half = self.limit, cost
            self._singles, self._singles_s, self._singles_cost = 0, 0.0, 0
        self._asks, self._guilty = True, False
        self._half = min(self._half, max(1, cost // 2))
        self._failed = max(self._failed, cost)
        self._lower(self._half)

    def passed(self, records: int, cost: int, seconds: float) -> None:
        """A try passed in ``seconds``."""
        if not self.limit:
            return
        if records == 1 and (self._asks or self.limit == 1):
            self._singles, self._singles_s = self._singles + 1, self._singles_s + seconds
            self._singles_cost += cost
            self._ask()
        if records > 1 and cost > self.limit:
            if seconds <= self._most_s:
                self._raise(cost)
        elif cost * 2 >= self.limit and (records > 1 or self.limit == 1):
            self._asks = False
            self._raise_limit(cost, seconds)

    def _ask(self) -> None:
        """Learn from the time that records of the batch that timed out take alone."""
        if not self._asks or self._singles < LEAST_SINGLES:
            return
        cost_s = self._singles_s / max(1, self._singles_cost)
        if self._guilty and cost_s * self._failed < self._most_s:
            self._asks, self.limit = False, self._before
            self._failed = self._failed if self.limit else 0
        elif self._singles_s / self._singles < self._quick_s and cost_s:
            self.limit = self._half
            self._lower(max(1, int(self._most_s / cost_s)))

    def _lower(self, limit: int) -> None:
        self.limit = min(self.limit or limit, limit)
        self._slowest, self._passes = (0.0, 0), 0

    def _raise_limit(self, cost: int, seconds: float) -> None:
        self._slowest = max(self._slowest, (seconds, cost))
        self._passes += 1
        if self._passes < CREEP_PASSES:
            return
        wanted = self.limit + max(1, self.limit // 4)
        if self._foreseen_s(wanted) <= self._most_s:
            self._raise(wanted)
        self._slowest, self._passes = (0.0, 0), 0

    def _foreseen_s(self, cost: int) -> float:
        """Expected seconds: a line through the time of single records and that of the slowest recent batch."""
        seconds, size = self._slowest
        single_s, single = 0.0, 0.0
        if self._singles:
            single_s, single = self._singles_s / self._singles, self._singles_cost / self._singles
        if size <= single:
            single_s, single = 0.0, 0.0
        slope = max(0.0, (seconds - single_s) / max(1e-9, size - single))
        return seconds + slope * max(0, cost - size)

    def _raise(self, limit: int) -> None:
        self.limit, self._passes, self._slowest = limit, 0, (0.0, 0)
        if limit >= self._failed:
            self.limit = self._failed = 0
            self._asks = False
