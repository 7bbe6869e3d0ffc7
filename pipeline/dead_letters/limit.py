"""Limits dead letters, so that a bad release does not turn a whole stream into them. Pure: no I/O, no clock.

A release that fails on every record would quickly make a dead letter of each. So the task ends when too many records in
a row, or too large a share of the last ones, became dead letters *through the release's fault*. Records that may belong
to such a range are held back from the sinks until this is decided: they are neither durable nor checkpointed. So the
next task reads the same records, and ends before them as well.

What counts (:func:`counts`) is the model's behavior: it raised, broke its contract, hung or died. Payloads that are
refused on purpose (a ``Reject``, invalid JSON, a broken aggregate) do not count: a producer may send any number of them
and must not be able to stop a task. Nor may one record stop it: a Kinesis record, however many user records it holds,
fills at most a twentieth of a limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import counted
from pipeline.record import Dead, Record

FAILURES = frozenset({"exception", "contract", "not_finite", "timeout", "died", "memory"})
"""Kinds of dead letters that are the model's failures."""

SHARE_OF_ONE = 20
"""A Kinesis record fills at most one part in this many of a limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_consecutive``: this many in a row end the task; 0: no limit. ``max_ratio``: a larger share of the last
    ``window`` records ends it, once there are that many; 1: no limit. ``on``: whether only failures count, or all
    dead letters.
    """

    max_consecutive: int
    max_ratio: float
    window: int
    on: Literal["failures", "all"]

    @property
    def allowance(self) -> int:
        """How many records of an undecided range may become durable if no more records come that would decide it."""
        return max(1, (self.max_consecutive or self.window) // 4)

    def __bool__(self) -> bool:
        return self.max_consecutive > 0 or self.max_ratio < 1


NO_LIMITS = Limits(0, 1.0, 1, "failures")


def counts(dead: Dead, limits: Limits) -> bool:
    """Return whether a dead letter counts for the limits. For ``decode``, an error raised by the model's own code
    counts.
    """
    return limits.on == "all" or dead.kind in FAILURES or (dead.kind == "decode" and bool(dead.traceback))


class Tally:
    """Counts the dead letters that count, in a row and among the last records; for a shard or a task.

    ``run``: how many in a row. ``since_clear``: how many since nothing was suspicious. Other dead letters neither
    lengthen nor end a run.
    """

    def __init__(self, limits: Limits) -> None:
        self.run = 0
        self.since_clear = 0
        self._limits = limits
        self._window: deque[tuple[int, int]] = deque()  # (count, 0) for rows, (0, 1) for a dead letter
        self._good = self._bad = 0
        self._unit: tuple[str, str] = ("", "")
        self._unit_run = self._unit_window = 0

    @property
    def share(self) -> float:
        """The share of dead letters among the last records; 0 before the first."""
        return self._bad / (self._good + self._bad) if self._bad else 0.0

    @property
    def clear(self) -> bool:
        """Whether no range that may end the task can have begun here."""
        return not (self.run and self._limits.max_consecutive) and self.share <= self._limits.max_ratio

    @property
    def exceeded(self) -> str | None:
        """Return which limit is exceeded, as part of a sentence; None if none is."""
        limits = self._limits
        if limits.max_consecutive and self.run >= limits.max_consecutive:
            return f"{counted(self.run, 'record')} in a row (dead_letter.max_consecutive)"
        if self._good + self._bad >= limits.window and self.share > limits.max_ratio:
            return (
                f"{self._bad:,} of the last {counted(self._good + self._bad, 'record')} "
                f"(dead_letter.max_ratio {limits.max_ratio:g})"
            )
        return None

    def rows(self, count: int) -> None:
        """This many records in a row became rows."""
        self.run = 0
        self._count(min(count, self._limits.window), 0)

    def row(self, record: Record) -> None:
        """A record became a row, among dead letters."""
        self.run = 0
        self._enter(record)
        if self._unit_window < self._most(self._limits.window):
            self._unit_window += 1
            self._count(1, 0)
        elif self.clear:
            self.since_clear = 0

    def dead(self, record: Record) -> None:
        """A record became a dead letter that counts."""
        self._enter(record)
        if self._unit_run < self._most(self._limits.max_consecutive or self._limits.window):
            self._unit_run += 1
            self.run += 1
            self.since_clear += 1
        if self._unit_window < self._most(self._limits.window):
            self._unit_window += 1
            self._count(0, 1)
        self.run = max(1, self.run)

    def all_of(self, records: Iterable[Record]) -> None:
        """Add settled records, in order; some of them may be dead."""
        for record in records:
            if not isinstance(record.outcome, Dead):
                self.row(record)
            elif counts(record.outcome, self._limits):
                self.dead(record)

    def _most(self, limit: int) -> int:
        return max(1, limit // SHARE_OF_ONE)

    def _enter(self, record: Record) -> None:
        if (unit := (record.shard_id, record.sequence)) != self._unit:
            self._unit = unit
            self._unit_run = self._unit_window = 0

    def _count(self, good: int, bad: int) -> None:
        self._window.append((good, bad))
        self._good += good
        self._bad += bad
        while (excess := self._good + self._bad - self._limits.window) > 0:
            first_good, first_bad = self._window.popleft()
            self._bad -= first_bad
            self._good -= min(first_good, excess)
            if first_good > excess:
                self._window.appendleft((first_good - excess, 0))
        if self.clear:
            self.since_clear = 0
