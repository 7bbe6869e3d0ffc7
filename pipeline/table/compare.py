"""A table held against the stream that it was made from: is every record one row or one dead letter, and none else?

Both sides are in sequence order, so they are walked side by side: of each shard, memory holds a page of the stream, a
file of the table and the first :data:`KEPT` records of each kind of problem, however large stream and table are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from operator import attrgetter
from typing import NamedTuple

import orjson
import pyarrow as pa

from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table import letters_audit, sink_letters
from pipeline.table.audit import Problem
from pipeline.table.contents import UNREADABLE, Contents, read
from pipeline.table.names import TABLE_FILE, first_of

KEPT = 100
"""Of each kind of problem in a shard; the others are counted."""

SHOWN = 5
"""Record ids that a problem names."""


UNKNOWN_MS = -1
"""When a dead letter's record arrived, where only its position is known."""


class Arrival(NamedTuple):
    """A record, as the stream has it or as the table says it was. Of :data:`UNKNOWN_MS`, key and time are unknown."""

    position: Position
    partition_key: str | None
    arrived_ms: int


@dataclass(slots=True)
class Tally:
    """Records of one kind: all are counted, ``first`` has those that came first."""

    count: int = 0
    first: list[Position] = field(default_factory=list)

    def add(self, position: Position) -> None:
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(position)


@dataclass(slots=True)
class ShardComparison:
    """What was found of one shard.

    - ``compared``: records of the stream that the table should have, up to ``reached``, where it ends;
    - ``missing``: of those, the ones that it has not;
    - ``doubled``: what the table has once more than it should, as a row or as a dead letter;
    - ``alien``: what the table has and the stream has not;
    - ``differs``: with another key or time of arrival;
    - ``behind``: records beyond ``reached``, which nobody has read yet;
    - ``retired``: what the table has of records that have left the stream since, at the end of their retention. They
      can be compared no more;
    - ``misplaced``: aggregates on the stream that hold a user record of another shard's hash keys. They count like any
      other: it is for their producer to know whether it has sent those records again.
    """

    shard_id: str
    reached: Position | None
    compared: int = 0
    behind: int = 0
    retired: int = 0
    misplaced: int = 0
    missing: Tally = field(default_factory=Tally)
    doubled: Tally = field(default_factory=Tally)
    alien: Tally = field(default_factory=Tally)
    differs: Tally = field(default_factory=Tally)

    def problems(self, stream: str, *, complete: bool) -> Iterator[Problem]:
        """``complete``: that nothing was left unread is part of the promise."""
        kinds = {
            "missing": (self.missing, "on the stream and neither rows nor dead letters"),
            "doubled": (self.doubled, "more than once among rows and dead letters"),
            "alien": (self.alien, "in the table and not on the stream"),
            "differs": (self.differs, "with another partition key or time of arrival than on the stream"),
        }
        for kind, (tally, what) in kinds.items():
            if tally.count:
                ids = ", ".join(f"{stream}/{self.shard_id}/{position}" for position in tally.first[:SHOWN])
                yield Problem(kind, self.shard_id, f"{tally.count} records {what}, among them {ids}")
        if complete and self.behind:
            yield Problem(
                "behind", self.shard_id, f"{self.behind} records beyond {self.reached or 'nothing'} are unread"
            )


def compared(
    shard_id: str,
    reached: Position | None,
    stream: Iterable[Iterable[Arrival]],
    table: Iterable[Arrival],
    oldest: Callable[[], Position | None],
) -> ShardComparison:
    """One shard; ``stream`` by pages, both in sequence order.

    ``reached`` and ``table`` must have been looked up before ``stream`` is read: what the table holds was on the
    stream before, and may have left it only at its old end. So ``oldest`` is asked, at most once a page, where the
    stream begins by now (None: nowhere, it is empty) before a row is called alien.
    """
    found = ShardComparison(shard_id, reached)
    rows = _once(table, found.doubled)
    row = next(rows, None)
    began = False
    for page in stream:
        unmatched = _Unmatched(found, oldest)
        for arrival in page:
            while row is not None and row.position < arrival.position:
                unmatched(row, began=began)
                row = next(rows, None)
            began = True
            if row is not None and row.position == arrival.position:
                _meets(found, arrival, row)
                row = next(rows, None)
            elif reached is None or arrival.position > reached:
                found.behind += 1
            else:
                found.compared += 1
                found.missing.add(arrival.position)
    unmatched = _Unmatched(found, oldest)
    while row is not None:
        unmatched(row, began=began)
        row = next(rows, None)
    return found


def _once(table: Iterable[Arrival], doubled: Tally) -> Iterator[Arrival]:
    last: Position | None = None
    for row in table:
        if last is not None and row.position <= last:
            doubled.add(row.position)
            continue
        last = row.position
        yield row


def _meets(found: ShardComparison, arrival: Arrival, row: Arrival) -> None:
    found.compared += 1
    if row.arrived_ms == UNKNOWN_MS:
        return
    if (row.partition_key, row.arrived_ms) != (arrival.partition_key, arrival.arrived_ms):
        found.differs.add(arrival.position)


class _Unmatched:
    """Rows that the stream has not, or has no more. Made anew for each page: the stream's old end moves."""

    def __init__(self, found: ShardComparison, oldest: Callable[[], Position | None]) -> None:
        self._found = found
        self._oldest = oldest
        self._asked: tuple[Position | None] | None = None

    def __call__(self, row: Arrival, *, began: bool) -> None:
        """``began``: a record before it was read from the stream; without one, it has left."""
        if began and self._lies_within(row.position):
            self._found.alien.add(row.position)
        else:
            self._found.retired += 1

    def _lies_within(self, position: Position) -> bool:
        if self._asked is None:
            self._asked = (self._oldest(),)
        [oldest] = self._asked
        return oldest is not None and position >= oldest


@dataclass(frozen=True, slots=True)
class Written:
    """One shard's files, listed at one moment."""

    reached: Position | None
    keys: list[str]


def written(store: ObjectStore, stream_created_s: int) -> dict[str, Written]:
    """By shard, the files of this life of the stream, in their order."""
    keys: dict[str, list[tuple[Position, str]]] = {}
    for key in store.list(""):
        if (match := TABLE_FILE.fullmatch(key)) and match["list"] == f"{stream_created_s}-{match['shard']}":
            keys.setdefault(match["shard"], []).append((first_of(key), key))
    listed = {shard_id: [key for _, key in sorted(each)] for shard_id, each in keys.items()}
    return {shard_id: Written(_end(store, each), each) for shard_id, each in listed.items()}


def held(store: ObjectStore, keys: Sequence[str], dead_letters: ObjectStore | None = None) -> Iterator[Arrival]:
    """What files hold, rows and dead letters, in sequence order.

    Dead letters are read where people read them; without ``dead_letters``, their positions are in the footers. One file
    at a time, and what of those before it lies behind its beginning: nothing, in a good table. A file that cannot be
    read holds nothing; the walk of the files names it.
    """
    left: list[Arrival] = []
    for key, following in zip_longest(keys, keys[1:]):
        left = sorted([*left, *_of(store, key, dead_letters)], key=attrgetter("position"))
        stop = len(left)
        if following is not None:
            stop = bisect_left(left, first_of(following), key=attrgetter("position"))
        yield from left[:stop]
        left = left[stop:]


def _of(store: ObjectStore, key: str, dead_letters: ObjectStore | None) -> list[Arrival]:
    try:
        contents = read(store.get(key))
        arrived_ms = contents.rows["arrived_at"].cast(pa.int64()).to_pylist()
        keys = contents.rows["partition_key"].to_pylist()
        rows = [Arrival(*each) for each in zip(contents.positions, keys, arrived_ms, strict=True)]
    except UNREADABLE:
        return []
    if dead_letters is None:
        return [*rows, *(Arrival(position, "", UNKNOWN_MS) for position in contents.dead)]
    try:
        return [*rows, *_letters(key, contents, dead_letters)]
    except sink_letters.WRONG:
        return rows


def _letters(key: str, contents: Contents, dead_letters: ObjectStore) -> list[Arrival]:
    found = letters_audit.found_letters(dead_letters, key, contents.footer)
    letters = [orjson.loads(line) for line in found[1].splitlines()] if found else []
    return [
        Arrival(
            Position(int(letter["sequence_number"]), letter["sub_sequence_number"]),
            letter["partition_key"],
            _ms(letter["arrived_at"]),
        )
        for letter in letters
    ]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _end(store: ObjectStore, keys: Sequence[str]) -> Position | None:
    """Where the last file that can be read ends: with a row or a dead letter, whatever its footer says."""
    for key in reversed(keys):
        try:
            last = read(store.get(key)).last
        except UNREADABLE:
            continue
        if last is not None:
            return last
    return None
