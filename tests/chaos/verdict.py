"""What became of the records: the table and the dead letters, held against the stream. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pipeline.record import Position
from tests.chaos.flow import kind_of, number_of
from tests.chaos.truth import Truth

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """Of the table. ``place``: the list of files that it is in; rows of a list are in the order of its files."""

    record_id: str
    place: str
    position: Position
    n: int


@dataclass(slots=True)
class Verdict:
    """Each list names records. ``wronged`` are healthy and dead letters, ``spared`` are poison and rows."""

    put: int = 0
    rows: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    alien: list[str] = field(default_factory=list)
    wronged: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    mixed_up: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "never put": self.alien,
            "healthy and dead-lettered": self.wronged,
            "poison and enriched": self.spared,
            "with another record's result": self.mixed_up,
            "out of order": self.out_of_order,
        }
        return [f"{len(ids)} {what}: {', '.join(ids[:SHOWN])}" for what, ids in kinds.items() if ids]


def judge(truth: Truth, rows: Sequence[Row], letters: Sequence[Mapping[str, Any]]) -> Verdict:
    """Every record of the stream is one row if it is healthy, else one dead letter, and there is nothing else."""
    verdict = Verdict(put=len(truth.payloads), rows=len(rows))
    verdict.dead_letters = dict(Counter(str(letter["kind"]) for letter in letters).most_common())
    ids = Counter([row.record_id for row in rows] + [str(letter["record_id"]) for letter in letters])
    verdict.lost = [record_id for record_id in truth.payloads if record_id not in ids]
    verdict.doubled = [record_id for record_id, times in ids.items() if times > 1]
    verdict.alien = [record_id for record_id in ids if record_id not in truth.payloads]
    for letter in letters:
        if kind_of(truth.payloads.get(letter["record_id"], b"")) == "":
            verdict.wronged.append(f"{letter['record_id']} ({letter['reason']})")
    for row in rows:
        data = truth.payloads.get(row.record_id, b"")
        if kind_of(data):
            verdict.spared.append(row.record_id)
        elif number_of(data) != row.n:
            verdict.mixed_up.append(row.record_id)
    verdict.out_of_order = [
        later.record_id
        for earlier, later in pairwise(rows)
        if earlier.place == later.place and earlier.position >= later.position
    ]
    return verdict
