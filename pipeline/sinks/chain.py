"""Each shard's files as a linked list: where a file begins decides its name, and a name is taken once.

Pure: what has been settled goes in, files to be written come out, and what became of them goes in again. ``now`` is
an argument, in seconds of any clock that never goes back. See docs/exactly-once.md for the protocol.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from pipeline.record import Dead, Enriched, Position, Record, Shard

END, PREVIOUS_END, WRITER, ROWS, DEAD = (
    "penstock-end",
    "penstock-previous-end",
    "penstock-writer",
    "penstock-rows",
    "penstock-dead",
)
"""Metadata of a file, in its footer and on its object. S3 lowers the case of names."""

DEAD_LETTERS = "penstock.dead_letters"
"""In the footer alone: the dead letters of the file's range, as JSON lines."""

SEQUENCE_DIGITS = 56
DEAD_BYTES = 1024 * 1024
"""A file is cut once its dead letters pass this, so that footers stay small."""

DAY_MS = 24 * 60 * 60 * 1000

RECORD_BYTES = 300
"""What one record costs in memory beside its rows."""


@dataclass(frozen=True, slots=True)
class Names:
    """How a shard's files are called, in one generation of one table."""

    shard: Shard
    generation: int

    def day(self, arrived_ms: int) -> str:
        """The prefix of the shard's files of one day (UTC)."""
        return self._of(datetime.fromtimestamp(arrived_ms / 1000, UTC).date())

    def key(self, first: Record) -> str:
        return f"{self.day(first.arrived_ms)}{first.sequence.zfill(SEQUENCE_DIGITS)}.parquet"

    def day_after(self, key: str) -> str:
        """The prefix of the shard's files of the day after this file's."""
        day = key.removeprefix(f"v={self.generation}/dt=").partition("/")[0]
        return self._of(date.fromisoformat(day) + timedelta(days=1))

    def _of(self, day: date) -> str:
        return f"v={self.generation}/dt={day.isoformat()}/{self.shard.stream_created_s}-{self.shard.shard_id}-"


def day_of(key: str) -> str:
    """The prefix that the shard's files of this file's day share."""
    return f"{key.rpartition('-')[0]}-"


def first_of(key: str) -> int:
    """The sequence number that a file begins with."""
    return int(key.removesuffix(".parquet").rpartition("-")[2])


def letters_key(key: str) -> str:
    """Where the dead letters of a file lie, below their own root."""
    return f"{key.removesuffix('.parquet')}.jsonl"


@dataclass(frozen=True, slots=True)
class File:
    """A contiguous range of a shard, to be written under ``key``."""

    key: str
    records: Sequence[Record]
    previous_end: Position | None
    end: Position

    def before(self, sequence: int) -> File:
        """The same file, ended before the record of that number, which must not be its first."""
        records = [record for record in self.records if record.position.sequence < sequence]
        return replace(self, records=records, end=records[-1].position)

    def metadata(self, writer: str) -> dict[str, str]:
        rows = sum(isinstance(record.outcome, Enriched) for record in self.records)
        return {
            END: str(self.end),
            PREVIOUS_END: str(self.previous_end or ""),
            WRITER: writer,
            ROWS: str(rows),
            DEAD: str(len(self.records) - rows),
        }


def end_of(metadata: Mapping[str, str]) -> Position:
    return Position.parse(metadata[END])


@dataclass(slots=True)
class _Piece:
    """The records of one file to come: of one day, in whole aggregates. ``sealed``: it grows no more."""

    day: int
    opened_s: float
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    dead_bytes: int = 0
    sealed: bool = False


class Chain:
    """One shard session's buffer, and its end of the list.

    ``end`` is the last file's end that this session knows of: its own, one it adopted, or the checkpoint it began at.
    ``bytes`` is what the buffer holds, about. A file stays in it until :meth:`written` has passed it.
    """

    def __init__(self, names: Names, *, flush_interval_s: float, flush_bytes: int, end: Position | None = None) -> None:
        self.end = end
        self.bytes = 0
        self._names = names
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = flush_bytes
        self._pieces: deque[_Piece] = deque()
        self._aggregate: list[Record] = []

    def __len__(self) -> int:
        return sum(len(piece.records) for piece in self._pieces) + len(self._aggregate)

    def add(self, records: Sequence[Record], now: float) -> None:
        """Take settled records, which follow those before; what the list already holds is passed over."""
        fresh = _beyond(self.end, [*self._aggregate, *records])
        whole = next((place for place in range(len(fresh), 0, -1) if fresh[place - 1].whole), 0)
        self._aggregate = fresh[whole:]
        self._place(fresh[:whole], now)
        self._weigh()

    def due_at(self) -> float | None:
        """When :meth:`next` will have a file; None if nothing waits that could be one."""
        if not self._pieces:
            return None
        piece = self._pieces[0]
        return piece.opened_s + (0.0 if piece.sealed else self._flush_interval_s)

    def next(self, now: float) -> File | None:
        """The file to write now, if any; the same one until :meth:`written` is told."""
        due_at = self.due_at()
        if due_at is None or now < due_at:
            return None
        piece = self._pieces[0]
        piece.sealed = True
        return File(self._names.key(piece.records[0]), piece.records, self.end, piece.records[-1].position)

    def seal(self) -> Position | None:
        """Everything taken is to be written now, but for an aggregate that is not whole. Returns up to where."""
        if not self._pieces:
            return self.end
        self._pieces[-1].sealed = True
        return self._pieces[-1].records[-1].position

    def written(self, end: Position) -> None:
        """The list now reaches ``end``: by our own file, or by other writers' that we adopt. What it holds is dropped;
        the rest of a file that was due is due again, at its new place."""
        self.end = end if self.end is None else max(self.end, end)
        while self._pieces and self._pieces[0].records[-1].position <= end:
            self._pieces.popleft()
        if self._pieces:
            piece = self._pieces[0]
            if piece.records[0].position <= end:
                piece.records = _beyond(end, piece.records)
                piece.bytes = size_of(piece.records)
        self._aggregate = _beyond(end, self._aggregate)
        self._weigh()

    def clear(self) -> None:
        """Drop the buffer: the lease is lost."""
        self._pieces.clear()
        self._aggregate = []
        self._weigh()

    def _place(self, records: list[Record], now: float) -> None:
        """Whole aggregates of any days: nearly always all at once, since nearly always all go into one file."""
        if not records:
            return
        days = {record.arrived_ms // DAY_MS for record in records}
        size, dead_size = size_of(records), dead_size_of(records)
        last = self._pieces[-1] if self._pieces else _Piece(0, now)
        fills = last.bytes + size >= self._flush_bytes or last.dead_bytes + dead_size >= DEAD_BYTES
        if len(days) == 1 and not fills:
            self._put(records, size, dead_size, now)
            return
        for aggregate in _aggregates(records):
            self._put(aggregate, size_of(aggregate), dead_size_of(aggregate), now)

    def _put(self, records: Sequence[Record], size_bytes: int, dead_bytes: int, now: float) -> None:
        """Into the last file to come, or a new one: of another day, or because the last is full."""
        day = records[0].arrived_ms // DAY_MS
        last = self._pieces[-1] if self._pieces else None
        if last is None or last.sealed or last.day != day:
            if last is not None:
                last.sealed = True
            last = _Piece(day, now)
            self._pieces.append(last)
        last.records.extend(records)
        last.bytes += size_bytes
        last.dead_bytes += dead_bytes
        last.sealed = last.bytes >= self._flush_bytes or last.dead_bytes >= DEAD_BYTES

    def _weigh(self) -> None:
        self.bytes = sum(piece.bytes for piece in self._pieces) + size_of(self._aggregate)


def size_of(records: Sequence[Record]) -> int:
    """What settled records hold in memory, about: each its share of its batch's rows, or its payload."""
    tables = [record.outcome.table for record in records if isinstance(record.outcome, Enriched)]
    by_id = {id(table): table for table in tables if table is not None}
    rows = Counter(map(id, tables))
    shares: int = sum(int(table.nbytes) // max(1, table.num_rows) * rows[name] for name, table in by_id.items())
    return RECORD_BYTES * len(records) + shares + dead_size_of(records)


def dead_size_of(records: Sequence[Record]) -> int:
    """Of the dead among them: what a dead letter carries."""
    dead = [record.outcome for record in records if isinstance(record.outcome, Dead)]
    return sum(len(each.payload) + len(each.reason) + len(each.traceback) for each in dead)


def _beyond(end: Position | None, records: list[Record]) -> list[Record]:
    """Those after ``end``, of records in sequence order."""
    if end is None or not records or records[0].position > end:
        return records
    return [record for record in records if record.position > end]


def _aggregates(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records of each aggregate; most records are one by themselves."""
    aggregate: list[Record] = []
    for record in records:
        aggregate.append(record)
        if record.whole:
            yield aggregate
            aggregate = []
