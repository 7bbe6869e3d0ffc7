"""A table held against the stream that it was made from: is every record one row or one dead letter, and none else?

Both sides are in sequence order, so they are walked side by side: memory holds a page of the stream and a file of the
table, however large they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.sinks.audit import KEY, Problem
from pipeline.sinks.chain import DEAD_LETTERS, end_of
from pipeline.sinks.store import ObjectStore

COLUMNS = ("sequence_number", "sub_sequence_number", "partition_key", "arrived_at")
SHOWN = 5
"""Record ids that a problem names; the others are counted."""


class Arrival(NamedTuple):
    """A record, as the stream has it or as the table says it was."""

    position: Position
    partition_key: str
    arrived_ms: int


@dataclass(slots=True)
class ShardComparison:
    """What was found of one shard; positions in sequence order.

    - ``compared``: records of the stream that the table should have, up to ``reached``, where it ends;
    - ``missing``: of those, the ones that it has not;
    - ``alien``: what the table has and the stream has not;
    - ``differs``: with another key or time of arrival;
    - ``behind``: records beyond ``reached``, which nobody has read yet;
    - ``retired``: what the table has of records that have left the stream since, at the end of their retention.
    """

    shard_id: str
    reached: Position | None
    compared: int = 0
    behind: int = 0
    retired: int = 0
    missing: list[Position] = field(default_factory=list)
    alien: list[Position] = field(default_factory=list)
    differs: list[Position] = field(default_factory=list)

    def problems(self, stream: str, *, complete: bool) -> Iterator[Problem]:
        """``complete``: that nothing was left unread is part of the promise."""
        kinds = {
            "missing": (self.missing, "on the stream and neither rows nor dead letters"),
            "alien": (self.alien, "in the table and not on the stream"),
            "differs": (self.differs, "with another partition key or time of arrival than on the stream"),
        }
        for kind, (positions, what) in kinds.items():
            if positions:
                ids = ", ".join(f"{stream}/{self.shard_id}/{position}" for position in positions[:SHOWN])
                yield Problem(kind, self.shard_id, f"{len(positions)} records {what}, among them {ids}")
        if complete and self.behind:
            yield Problem(
                "behind", self.shard_id, f"{self.behind} records beyond {self.reached or 'nothing'} are unread"
            )


def compared(
    shard_id: str, reached: Position | None, stream: Iterable[list[Arrival]], table: Iterable[Arrival]
) -> ShardComparison:
    """One shard. ``reached`` and ``table`` must have been looked up before ``stream`` is read: it only grows."""
    found = ShardComparison(shard_id, reached)
    rows = iter(table)
    row = next(rows, None)
    first = True
    for arrival in chain.from_iterable(stream):
        while row is not None and row.position < arrival.position:
            _unmatched(found, row, retired=first)
            row = next(rows, None)
        first = False
        if reached is None or arrival.position > reached:
            found.behind += 1
            continue
        found.compared += 1
        if row is None or row.position > arrival.position:
            found.missing.append(arrival.position)
            continue
        if (row.partition_key, row.arrived_ms) != (arrival.partition_key, arrival.arrived_ms):
            found.differs.append(arrival.position)
        row = next(rows, None)
    for left in chain([] if row is None else [row], rows):
        _unmatched(found, left, retired=first)
    return found


def _unmatched(found: ShardComparison, row: Arrival, *, retired: bool) -> None:
    """Before the first record that the stream still has, nothing can be held against it."""
    if retired:
        found.retired += 1
    else:
        found.alien.append(row.position)


@dataclass(frozen=True, slots=True)
class Written:
    """One shard's files, listed at one moment."""

    reached: Position | None
    keys: list[str]


def written(store: ObjectStore, generation: int, stream_created_s: int) -> dict[str, Written]:
    """By shard, the files of this life of the stream, in their order."""
    keys: dict[str, list[tuple[int, str]]] = {}
    for key in store.list(f"v={generation}/"):
        if (match := KEY.fullmatch(key)) and match["list"] == f"{stream_created_s}-{match['shard']}":
            keys.setdefault(match["shard"], []).append((int(match["first"]), key))
    listed = {shard_id: [key for _, key in sorted(each)] for shard_id, each in keys.items()}
    return {shard_id: Written(_end(store, each[-1]), each) for shard_id, each in listed.items()}


def held(store: ObjectStore, keys: Iterable[str]) -> Iterator[Arrival]:
    """What files hold, rows and dead letters (they are in the footer), in sequence order. One file at a time."""
    for key in keys:
        file = pq.ParquetFile(pa.BufferReader(store.get(key)))
        table = file.read(list(COLUMNS), use_threads=False)
        arrived_ms = table["arrived_at"].cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64()).to_pylist()
        columns = [table[name].to_pylist() for name in COLUMNS[:3]]
        rows = [
            Arrival(Position(int(sequence), sub), partition_key, ms)
            for sequence, sub, partition_key, ms in zip(*columns, arrived_ms, strict=True)
        ]
        yield from sorted([*rows, *_letters(file)], key=lambda arrival: arrival.position)


def _letters(file: pq.ParquetFile) -> Iterator[Arrival]:
    lines = (file.metadata.metadata or {}).get(DEAD_LETTERS.encode(), b"").splitlines()
    for letter in map(orjson.loads, lines):
        position = Position(int(letter["sequence_number"]), letter["sub_sequence_number"])
        yield Arrival(position, letter["partition_key"], _ms(letter["arrived_at"]))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _end(store: ObjectStore, key: str) -> Position:
    footer = pq.read_metadata(pa.BufferReader(store.get(key))).metadata
    return end_of({name.decode(): text.decode() for name, text in footer.items() if name.startswith(b"penstock-")})
