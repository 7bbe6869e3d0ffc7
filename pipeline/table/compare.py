"""Compares a table with the stream it was made from: each record must be exactly one row or one dead letter.

Both sides are in sequence order and are walked side by side. For each shard, memory holds one page of the stream, one
file of the table and the first :data:`KEPT` records of each kind of problem, however large the stream and the table
are.
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

from pipeline.errors import counted
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table import letters_audit, sink_letters
from pipeline.table.audit import Problem
from pipeline.table.contents import UNREADABLE, Contents, read
from pipeline.table.names import TABLE_FILE, first_of

KEPT = 100
"""How many records of each kind of problem are kept for each shard; the rest is only counted."""

SHOWN = 5
"""How many record ids a problem names."""


UNKNOWN_MS = -1
"""``arrived_ms`` of a dead letter of which only the position is known."""


class Arrival(NamedTuple):
    """A record as the stream or the table has it. With :data:`UNKNOWN_MS`, key and time are unknown."""

    position: Position
    partition_key: str | None
    arrived_ms: int


@dataclass(slots=True)
class ProblemTally:
    """Counts records of one kind of problem and keeps the first :data:`KEPT` positions."""

    count: int = 0
    first: list[Position] = field(default_factory=list)

    def add(self, position: Position) -> None:
        """Count one record; add in sequence order."""
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(position)


@dataclass(slots=True)
class ShardComparison:
    """The result for one shard.

    - ``reached``: where the table ends; None if it has nothing of the shard;
    - ``compared``: how many records of the stream, up to ``reached``, the table should have;
    - ``missing``: those of them that the table does not have;
    - ``doubled``: records that the table has more than once, as rows or as dead letters;
    - ``alien``: records that the table has and the stream does not;
    - ``differs``: records with another partition key or time of arrival than on the stream;
    - ``behind``: how many records lie beyond ``reached``, not yet read by the application;
    - ``retired``: how many records of the table have since left the stream, at the end of its retention. They cannot be
      compared any more;
    - ``misplaced``: how many aggregates on the stream hold a user record whose hash key belongs to another shard. They
      are counted like any other; only their producer can know whether it sent those records again.
    """

    shard_id: str
    reached: Position | None
    compared: int = 0
    behind: int = 0
    retired: int = 0
    misplaced: int = 0
    missing: ProblemTally = field(default_factory=ProblemTally)
    doubled: ProblemTally = field(default_factory=ProblemTally)
    alien: ProblemTally = field(default_factory=ProblemTally)
    differs: ProblemTally = field(default_factory=ProblemTally)

    def problems(self, stream: str, *, complete: bool) -> Iterator[Problem]:
        """Yield a problem for each kind that was found. ``complete``: unread records (``behind``) count as a problem,
        too.
        """
        kinds = {
            "missing": (self.missing, "on the stream but neither rows nor dead letters"),
            "doubled": (self.doubled, "more than once among rows and dead letters"),
            "alien": (self.alien, "in the table but not on the stream"),
            "differs": (self.differs, "with another partition key or time of arrival than on the stream"),
        }
        for kind, (tally, what) in kinds.items():
            if tally.count:
                ids = ", ".join(f"{stream}/{self.shard_id}/{position}" for position in tally.first[:SHOWN])
                yield Problem(kind, self.shard_id, f"{counted(tally.count, 'record')} {what}, among them {ids}")
        if complete and self.behind:
            yield Problem(
                "behind",
                self.shard_id,
                f"{counted(self.behind, 'record')} after {self.reached or 'the beginning'} not read yet",
            )


def compared(
    shard_id: str,
    reached: Position | None,
    stream: Iterable[Iterable[Arrival]],
    table: Iterable[Arrival],
    oldest: Callable[[], Position | None],
) -> ShardComparison:
    """Compare one shard. ``stream`` comes in pages; both sides are in sequence order.

    Look up ``reached`` and ``table`` before ``stream`` is read: then a record of the table can be missing on the
    stream only if it has expired. ``oldest`` returns where the stream begins now (None: it is empty); it is called at
    most once a page, before a row is counted as alien.
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


def _once(table: Iterable[Arrival], doubled: ProblemTally) -> Iterator[Arrival]:
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
    """Sorts rows that the stream lacks into alien and retired. One for each page: the stream's old end moves."""

    def __init__(self, found: ShardComparison, oldest: Callable[[], Position | None]) -> None:
        self._found = found
        self._oldest = oldest
        self._asked: tuple[Position | None] | None = None

    def __call__(self, row: Arrival, *, began: bool) -> None:
        """``began``: a record before this row has been read from the stream. Without one, the row's record has left the
        stream.
        """
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
    """One shard's files, listed at one moment. ``reached``: position of its last row or dead letter."""

    reached: Position | None
    keys: list[str]


def written(store: ObjectStore, stream_created_s: int) -> dict[str, Written]:
    """Return, by shard id, the files of this life of the stream, in their order.

    Files that cannot be read are listed but do not count for ``reached``.
    """
    keys: dict[str, list[tuple[Position, str]]] = {}
    for key in store.list(""):
        if (match := TABLE_FILE.fullmatch(key)) and match["list"] == f"{stream_created_s}-{match['shard']}":
            keys.setdefault(match["shard"], []).append((first_of(key), key))
    listed = {shard_id: [key for _, key in sorted(each)] for shard_id, each in keys.items()}
    return {shard_id: Written(_end(store, each), each) for shard_id, each in listed.items()}


def held(store: ObjectStore, keys: Sequence[str], dead_letters: ObjectStore | None = None) -> Iterator[Arrival]:
    """Yield what the files hold, rows and dead letters, in sequence order.

    Dead letters are read from the store ``dead_letters``; without it, only their positions are known, from the footers.
    Memory holds one file, plus records of earlier files that lie behind its beginning (none in a correct table). A file
    that cannot be read yields nothing; the audit reports it.
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
    """Position of the last row or dead letter of the last readable file, whatever its footer says."""
    for key in reversed(keys):
        try:
            last = read(store.get(key)).last
        except UNREADABLE:
            continue
        if last is not None:
            return last
    return None
