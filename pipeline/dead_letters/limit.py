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

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.dead_letters.redaction import label
from pipeline.errors import counted
from pipeline.record import Dead, Record, Run, Shard, settled_weight

FAILURES = frozenset({"exception", "contract", "not_finite", "timeout", "died", "memory"})
"""Kinds of dead letters that are the model's failures."""

SHARE_OF_ONE = 20
"""A Kinesis record fills at most one part in this many of a limit."""

LABELS = 50


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


class Gate:
    """Stands between a shard's settled records and its sinks: holds back, in order, what may belong to a bad range.

    ``stopped``: why the task must end, in one line. From then on nothing passes.
    """

    def __init__(self, shard: Shard, limits: Limits) -> None:
        self.stopped: str | None = None
        self.bytes = 0
        self.tally = Tally(limits)
        self.turn = 0
        """Rises with every run that arrives."""
        self._shard = shard
        self._limits = limits
        self._records: list[Record] = []
        self._payloads: list[bytes] = []
        self._let_go = 0
        self._labels: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def __len__(self) -> int:
        """How many records are held back."""
        return len(self._records)

    def take(self, run: Run, dead: int) -> Run | None:
        """Add ``run``, which has ``dead`` dead records, and return what may pass now."""
        self.turn += 1
        if self.stopped:
            return None
        if not dead:
            self.tally.rows(len(run.records))
            passes = len(run.records) if self.tally.clear else 0
        else:
            passes = self._weigh(run.records)
        if passes == len(run.records) and not self._records:
            self._forget()
            return run
        return self._pass(run, passes)

    def let_go(self) -> Run | None:
        """Return everything that is held back, if it is within the allowance: no more records come that would decide
        it.
        """
        if self.stopped or not self._records or self.tally.since_clear > self._limits.allowance:
            return None
        self._let_go += len(self._records)
        return self._emptied()

    def end(self) -> Run | None:
        """Return everything that is held back: the shard has ended."""
        return self._emptied() if self._records and not self.stopped else None

    def overflow(self) -> Run | None:
        """As :meth:`let_go`, because there is no room to hold more; stops the task if it is more than the allowance."""
        if (run := self.let_go()) is None and self._records and not self.stopped:
            self._stop(
                f"{counted(self.tally.since_clear, 'record')}, more than can be held back within in_flight.total_mib,"
            )
        return run

    def said(self) -> str | None:
        """What is suspicious, in one line; None while it is little."""
        if self.tally.since_clear <= self._limits.allowance // 4:
            return None
        return (
            f"{self._shard.shard_id}: {counted(self.tally.since_clear, 'dead letter')}, {self.tally.run:,} of them in "
            "a row, "
            f"{self._commonest()}; held back: {counted(len(self), 'record')}"
        )

    def clear(self) -> None:
        """Drop what is held back: the lease is lost."""
        self._emptied()

    def stop(self, tally: Tally) -> None:
        """Stop: the tally of the whole task exceeds a limit."""
        if not self.stopped and (exceeded := tally.exceeded):
            self._stop(f"{exceeded} of all shards together")

    def _weigh(self, records: list[Record]) -> int:
        """How many of the records pass: all up to the last one after which nothing is suspicious."""
        passes = 0
        for place, record in enumerate(records, 1):
            outcome = record.outcome
            if not isinstance(outcome, Dead):
                self.tally.row(record)
            elif counts(outcome, self._limits):
                self.tally.dead(record)
                self._note(record, outcome)
                if exceeded := self.tally.exceeded:
                    self._stop(exceeded)
                    return passes
            if self.tally.clear:
                passes = place
                self._forget()
        return passes

    def _pass(self, run: Run, passes: int) -> Run | None:
        before = self._emptied() if passes and self._records else None
        rest = run.records[passes:]
        self._records += rest
        self._payloads += run.payloads[passes:]
        self.bytes += settled_weight(rest) + sum(map(len, run.payloads[passes:]))
        if not passes:
            return None
        head = Run(run.shard, run.records[:passes], run.payloads[:passes])
        if before is None:
            return head
        return Run(run.shard, before.records + head.records, [*before.payloads, *head.payloads])

    def _emptied(self) -> Run:
        run = Run(self._shard, self._records, self._payloads)
        self._records, self._payloads, self.bytes = [], [], 0
        return run

    def _note(self, record: Record, dead: Dead) -> None:
        name = label(dead)
        if name not in self._labels and len(self._labels) >= LABELS:
            name = dead.kind
        self._labels[name] += 1
        self._examples.setdefault(name, record.record_id(self._shard.stream))

    def _forget(self) -> None:
        self._let_go = 0
        if self._labels:
            self._labels.clear()
            self._examples.clear()

    def _commonest(self) -> str:
        if not self._labels:
            return "of other shards"
        [(name, _)] = self._labels.most_common(1)
        return f"most of them {name}, such as {self._examples[name]}"

    def _stop(self, exceeded: str) -> None:
        before = f" all but the first {self._let_go:,} of" if self._let_go else ""
        self.stopped = (
            f"{self._shard.shard_id}: {exceeded} became dead letters, {self._commonest()}. The checkpoint stays before"
            f"{before} them. Fix the release. If the records are to blame, raise that limit, or switch it off until "
            "the task has passed them (PENSTOCK_DEAD_LETTER__MAX_CONSECUTIVE=0, PENSTOCK_DEAD_LETTER__MAX_RATIO=1)"
        )
