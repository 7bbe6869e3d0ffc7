"""Holds back a shard's settled records while they may belong to a range of dead letters that ends the task. Pure.

:mod:`pipeline.dead_letters.limit` says what is suspicious, and why records are held back.
"""

from __future__ import annotations

from collections import Counter

from pipeline.dead_letters.limit import Limits, Tally, counts
from pipeline.dead_letters.redaction import label
from pipeline.errors import counted
from pipeline.record import Dead, Record, Run, Shard, settled_weight

LABELS = 50
"""How many sorts of dead letters are told apart in a message; others count by their kind."""


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

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest record that is held back arrived, in epoch ms; None if there is none."""
        return self._records[0].arrived_ms if self._records else None

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
