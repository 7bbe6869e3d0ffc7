"""Compares the table and the dead letters with the stream. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from pipeline.record import Position
from tests.chaos.expected import Truth
from tests.chaos.producer import kind_of, number_of

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. ``place``: the list of files that it is in; rows of a list are in the order of its files."""

    record_id: str
    place: str
    position: Position
    n: int
    keyless: bool = False


class Letter(NamedTuple):
    """A dead letter, with the fields that are checked."""

    record_id: str
    kind: str
    reason: str
    payload: bytes


@dataclass(slots=True)
class Verdict:
    """Each list names records. ``wronged``: healthy records that are dead letters. ``spared``: poison that is a row.
    ``changed``: dead letters whose payload is not the producer's, or that name a broken aggregate wrongly."""

    put: int = 0
    rows: int = 0
    keyless: int = 0
    """Rows of records without a partition key."""

    dead_letters: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    alien: list[str] = field(default_factory=list)
    wronged: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    mixed_up: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "never put": self.alien,
            "healthy and dead-lettered": self.wronged,
            "poison and enriched": self.spared,
            "dead-lettered otherwise than it was put": self.changed,
            "with another record's result or key": self.mixed_up,
            "out of order": self.out_of_order,
        }
        return [f"{len(ids)} {what}: {', '.join(ids[:SHOWN])}" for what, ids in kinds.items() if ids]


def judge(truth: Truth, rows: Sequence[Row], letters: Sequence[Letter]) -> Verdict:
    """Check that every healthy record is one row, every other one a dead letter, and that there is nothing else."""
    verdict = Verdict(put=len(truth.payloads), rows=len(rows), keyless=sum(row.keyless for row in rows))
    verdict.dead_letters = dict(Counter(letter.kind for letter in letters).most_common())
    ids = Counter([row.record_id for row in rows] + [letter.record_id for letter in letters])
    verdict.lost = [record_id for record_id in truth.payloads if record_id not in ids]
    verdict.doubled = [record_id for record_id, times in ids.items() if times > 1]
    verdict.alien = [record_id for record_id in ids if record_id not in truth.payloads]
    for letter in letters:
        data, is_broken = truth.payloads.get(letter.record_id, b""), letter.record_id in truth.broken
        if not is_broken and kind_of(data) == "":
            verdict.wronged.append(f"{letter.record_id} ({letter.reason})")
        if letter.record_id in truth.payloads and (letter.payload != data or (letter.kind == "aggregate") != is_broken):
            verdict.changed.append(f"{letter.record_id} ({letter.kind}: {letter.reason})")
    for row in rows:
        data = truth.payloads.get(row.record_id, b"")
        if kind_of(data) or row.record_id in truth.broken:
            verdict.spared.append(row.record_id)
        elif number_of(data) != row.n or row.keyless != (row.record_id in truth.keyless):
            verdict.mixed_up.append(row.record_id)
    verdict.out_of_order = [
        later.record_id
        for earlier, later in pairwise(rows)
        if earlier.place == later.place and earlier.position >= later.position
    ]
    return verdict
