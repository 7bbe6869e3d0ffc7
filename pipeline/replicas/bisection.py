"""Finds the bad records of a failed batch in few tries. Pure: the caller makes the tries.

A failed batch holds a bad record, and a binary search finds one. Records that pass on the way are done; records that
were not looked at are then tried again together.

Cost of k bad records among n, besides the first try of the batch and the retries of each record: at most k·(ceil(log2
n) + 2) tries. Each bad record costs a binary search, one try of the record alone, and one try of the rest. This bound
is reached when each bad record is the second of those left. For one bad record among a power of two it is optimal: each
good record must pass some try and the bad one must fail alone, so c tries can distinguish at most 3·2^(c-3) records.
The average is half a try less. Where searches would cost more than trying one by one, records are tried one by one:
never more than 2n + 8 tries in all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

SPARE_TRIES = 8
"""Tries allowed beyond one for each record, so that small batches can be searched to the end."""


class Bisection(Generic[T]):
    """Call :meth:`next`, try the items that it returns, and report the result; repeat until it returns none.

    Every item is returned until it passes, or has failed ``retries + 1`` times alone. No item is blamed otherwise.
    """

    def __init__(self, items: Sequence[T], retries: int) -> None:
        self._retries = retries
        self._pace = _Pace(len(items))
        self._tries_left = len(items) + SPARE_TRIES
        self._unknown = list(items)
        self._guilty: list[T] = []  # contains a bad item: these failed together with others, and the others passed
        self._alone: deque[T] = deque()  # to be tried one by one
        self._tried: list[T] = []
        self._rest: list[T] = []  # the guilty items without `_tried`
        self.attempts = 1
        """For an item that is tried alone: the number of the present or next try, from 1."""
        self.was_too_large = False
        """Whether several items together have run out of memory."""

    def next(self) -> list[T]:
        """Return what to try now, in the batch's order; empty when every item is decided."""
        if self._tries_left <= 0 and not self._alone:
            self._alone.extend(self._guilty + self._unknown)
            self._guilty, self._unknown = [], []
        self._rest = []
        if self._alone:
            self._tried = [self._alone.popleft()]
        elif self._guilty:
            half = (len(self._guilty) + 1) // 2
            self._tried, self._rest = self._guilty[:half], self._guilty[half:]
            self._guilty = []
        else:
            self._tried, self._unknown = self._unknown[: self._pace.most], self._unknown[self._pace.most :]
        self._tries_left -= self.attempts == 1
        return self._tried

    def passed(self) -> None:
        """The items passed. If they were half of a guilty set, the other half is guilty."""
        self._pace.passed(len(self._tried))
        self._guilty = self._rest
        self.attempts = 1

    def failed(self) -> int | None:
        """The try failed as a whole. For an item alone: return its number of attempts if it has used them all."""
        if len(self._tried) == 1:
            return self._failed_alone()
        self._unknown = self._rest + self._unknown
        self._guilty = self._tried
        return None

    def died(self) -> int | None:
        """The try killed the replica: each item is a suspect and is tried alone. Returns as :meth:`failed`."""
        if len(self._tried) == 1:
            return self._failed_alone()
        self._unknown = self._rest + self._unknown
        self._alone.extend(self._tried)
        return None

    def too_large(self) -> int | None:
        """The try ran out of memory: try fewer items at a time; an item is to blame only if it was alone. Returns as
        :meth:`failed`.
        """
        self._pace.too_large(len(self._tried))
        if len(self._tried) == 1:
            return self._failed_alone()
        self.was_too_large = True
        self._unknown = self._tried + self._rest + self._unknown
        return None

    def left(self) -> list[T]:
        """Return the items that are neither decided nor being tried."""
        return [*self._alone, *self._guilty, *self._unknown]

    def unbegun(self) -> None:
        """The try did not begin: it is repeated."""
        self._unknown = self._tried + self._rest + self._unknown

    def excused(self) -> None:
        """The item that would be at its end is not to blame: try it again, after the others that are tried alone."""
        self._alone.append(self._tried[0])

    def _failed_alone(self) -> int | None:
        self._unknown = self._rest + self._unknown
        attempts = self.attempts
        if attempts > self._retries:
            self.attempts = 1
            return attempts
        self.attempts += 1
        self._alone.appendleft(self._tried[0])
        return None


class _Pace:
    """How many items to try at a time: half of what was too large, twice what passed.

    So one large record does not cause small tries for all others. Where every record is large, doubling fails; the next
    doubling then waits for twice as many passes. If a single record alone was too large, the others were not.
    """

    def __init__(self, size: int) -> None:
        self.most = self._size = size
        self._wanted = 1  # passes needed before it is doubled
        self._passes = 0
        self._doubled = False

    def passed(self, count: int) -> None:
        if count < self.most or self.most >= self._size:
            return
        self._wanted = 1 if self._doubled else self._wanted
        self._passes += 1
        self._doubled = self._passes >= self._wanted
        if self._doubled:
            self.most, self._passes = min(2 * self.most, self._size), 0

    def too_large(self, count: int) -> None:
        self._wanted = 1 if count == 1 else 2 * self._wanted if self._doubled else self._wanted
        self.most = self._size if count == 1 else count // 2
        self._passes, self._doubled = 0, False
