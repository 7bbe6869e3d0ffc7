"""Which records of a failed batch are to blame, found with few tries. Pure: the caller does the trying.

A failed batch holds a bad record. A binary search finds one; what it clears on its way is done, and what it has not
looked at is tried again as a whole.

What k bad records in n cost beside the one try of the batch, and beside the retries of each: at most
k·(ceil(log2 n) + 2) tries, a binary search each, its finding tried by itself, and the rest tried as a whole. That is
reached, by bad records that are each the second of what is left. For one bad record among a power of two nobody does
better: each good record must pass some try and the bad one fail alone, so c tries tell at most 3·2^(c-3) records apart.
On average it is half a try less. Where searches would cost more than trying one by one, that is done: never more than
2n + 8 tries in all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

SPARE_TRIES = 8
"""Beyond one per record: small batches may be searched to the end."""


class Bisection(Generic[T]):
    """Call :meth:`next`, try what it gives, say how it went; until it gives nothing.

    Every item is given until it passes, or fails ``retries + 1`` times by itself; no item is blamed otherwise.
    """

    def __init__(self, items: Sequence[T], retries: int) -> None:
        self._retries = retries
        self._pace = _Pace(len(items))
        self._tries_left = len(items) + SPARE_TRIES
        self._unknown = list(items)
        self._guilty: list[T] = []  # holds a bad one: a try of these and others failed, and the others passed
        self._alone: deque[T] = deque()  # to be tried one by one
        self._tried: list[T] = []
        self._rest: list[T] = []  # what was left of the guilty ones when `_tried` was taken from them
        self.attempts = 1
        """Which try by itself the next or the present one is, for an item that is tried alone."""
        self.was_too_large = False
        """Whether several of them have run out of memory."""

    def next(self) -> list[T]:
        """What to try now, in the order of the batch; empty when everything is decided."""
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
        """The items are done. If they were half of a guilty lot, the other half is guilty."""
        self._pace.passed(len(self._tried))
        self._guilty = self._rest
        self.attempts = 1

    def failed(self) -> int | None:
        """The batch failed as a whole. For one item by itself: its number of attempts if that is its end."""
        if len(self._tried) == 1:
            return self._failed_alone()
        self._unknown = self._rest + self._unknown
        self._guilty = self._tried
        return None

    def died(self) -> int | None:
        """It took the replica along: each is a suspect, and tried by itself. Returns as :meth:`failed`."""
        if len(self._tried) == 1:
            return self._failed_alone()
        self._unknown = self._rest + self._unknown
        self._alone.extend(self._tried)
        return None

    def too_large(self) -> int | None:
        """Out of memory: nobody's fault while it is about many, so fewer at a time. Returns as :meth:`failed`."""
        self._pace.too_large(len(self._tried))
        if len(self._tried) == 1:
            return self._failed_alone()
        self.was_too_large = True
        self._unknown = self._tried + self._rest + self._unknown
        return None

    def left(self) -> list[T]:
        """What is neither decided nor being tried."""
        return [*self._alone, *self._guilty, *self._unknown]

    def unbegun(self) -> None:
        """Nothing is known of the try: it is made anew."""
        self._unknown = self._tried + self._rest + self._unknown

    def excused(self) -> None:
        """What would now be at its end is tried anew, after the others that are tried alone: it was not its fault."""
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
    """How many to try at a time: half of what was too large, and twice what passed.

    So one large record does not make small tries of all the others. Where every record is large, doubling fails: it is
    then tried again after twice as many passes as before. If one record by itself was too large, the others were not.
    """

    def __init__(self, size: int) -> None:
        self.most = self._size = size
        self._wanted = 1  # passes before it is doubled
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
