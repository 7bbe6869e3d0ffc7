"""How large a batch may be so that it ends before ``model.timeout_s``, as far as batches have told. Pure.

A time-out costs its batch one call for each record, and its replica a load of the model; so it has to teach.
"""

from __future__ import annotations

SHARE = 0.8
"""Batches may take this share of the time-out, as far as can be foreseen: machines have slow moments."""

QUICK = 0.25
"""Records that take less of the time-out than this by themselves say how many fit. Of slower ones a call may be the
most, and the records little: then halving finds out."""

LEAST_SINGLES = 3
"""So many records must have passed by themselves before their time is believed."""

CREEP_PASSES = 8
"""After so many batches near the limit it is raised by a quarter, if that is foreseen to be in time."""


class SafeTime:
    """What a batch may cost so that it is in time; costs are records where the model measures none.

    A batch of several records that times out halves it. What its records take by themselves then lowers it to what
    adds up to :data:`SHARE` of the time-out, or, if one of them times out by itself and the others add up to less,
    takes the halving back: that record was to blame, not the size. The limit rises while batches that use it are
    foreseen to stay below that share, and is forgotten once it is where it began.
    """

    def __init__(self, timeout_s: float) -> None:
        self.limit = 0
        """The most that a batch of several records may cost; 0: nothing is known."""
        self._most_s = SHARE * timeout_s
        self._quick_s = QUICK * timeout_s
        self._failed = 0  # the largest cost that timed out since nothing was known
        self._before = 0  # the limit before the last batch that timed out; and half of that batch
        self._half = 0
        self._asks = False  # whether the last batch that timed out is being tried by parts
        self._guilty = False
        self._singles, self._singles_s, self._singles_cost = 0, 0.0, 0
        self._slowest: tuple[float, int] = (0.0, 0)
        self._passes = 0

    def expect(self, record_s: float, most: int) -> None:
        """Before the first batch: one record takes ``record_s``, and batches may cost ``most``."""
        if record_s * most > self._most_s:
            self.limit, self._failed = max(1, int(self._most_s / record_s)), most
            self._singles, self._singles_s, self._singles_cost = LEAST_SINGLES, LEAST_SINGLES * record_s, LEAST_SINGLES

    def timed_out(self, records: int, cost: int) -> None:
        """A try of so many records took too long."""
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
        """A try took ``seconds``."""
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
            self._creep(cost, seconds)

    def _ask(self) -> None:
        """What do the records of the batch that timed out say, each by itself?"""
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

    def _creep(self, cost: int, seconds: float) -> None:
        self._slowest = max(self._slowest, (seconds, cost))
        self._passes += 1
        if self._passes < CREEP_PASSES:
            return
        wanted = self.limit + max(1, self.limit // 4)
        if self._foreseen_s(wanted) <= self._most_s:
            self._raise(wanted)
        self._slowest, self._passes = (0.0, 0), 0

    def _foreseen_s(self, cost: int) -> float:
        """By a line through what single records took and what the slowest batch of late took."""
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
