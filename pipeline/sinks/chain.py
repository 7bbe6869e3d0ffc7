"""Each shard's files as a linked list: where a file begins decides its name, and a name is taken once.

Pure: what has been settled goes in, files to be written come out, and what became of them goes in again. ``now`` is
an argument, in seconds of any clock that never goes back. See docs/exactly-once.md for the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.record import Dead, Enriched, Position, Record, Shard

END, PREVIOUS_END, WRITER, ROWS, DEAD = (
    "penstock-end",
    "penstock-previous-end",
    "penstock-writer",
    "penstock-rows",
    "penstock-dead",
)
"""Metadata of a file, in its footer and on its object. S3 lowers the case of names."""

DEAD_LETTERS = "penstock-dead-letters"
"""In the footer alone: the dead letters of the file's range, as JSON lines."""

SEQUENCE_DIGITS = 56
DEAD_BYTES = 1024 * 1024
"""A file is cut once the payloads of its dead letters pass this, so that footers stay small."""

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
        day = datetime.fromtimestamp(arrived_ms / 1000, UTC).date().isoformat()
        return f"v={self.generation}/dt={day}/{self.shard.stream_created_s}-{self.shard.shard_id}-"

    def key(self, first: Record) -> str:
        return f"{self.day(first.arrived_ms)}{first.sequence.zfill(SEQUENCE_DIGITS)}.parquet"


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


class Chain:
    """One shard session's buffer, and its end of the list.

    ``end`` is the last file's end that this session knows of: its own, one it adopted, or the checkpoint it began at.
    """

    def __init__(self, names: Names, *, flush_interval_s: float, flush_bytes: int, end: Position | None = None) -> None:
        self.end = end
        self.bytes = 0
        self._names = names
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = flush_bytes
        self._records: deque[Record] = deque()
        self._sizes: deque[int] = deque()
        self._times: deque[float] = deque()
        self._dead = 0
        self._cut = False

    def __len__(self) -> int:
        return len(self._records)

    def add(self, records: Sequence[Record], now: float) -> None:
        """Take settled records, which follow those before; what the list already holds is passed over."""
        for record in records:
            if self.end is not None and record.position <= self.end:
                continue
            size = size_of(record)
            self._note(record)
            self._records.append(record)
            self._sizes.append(size)
            self._times.append(now)
            self.bytes += size

    def due_at(self) -> float | None:
        """When the oldest record wants to be written; None if nothing waits."""
        return self._times[0] + self._flush_interval_s if self._times else None

    def next(self, now: float, *, flush: bool = False) -> File | None:
        """The file to write now, if any. Asked again without a verdict it gives the same or a longer one."""
        if not self._records:
            return None
        old = now >= self._times[0] + self._flush_interval_s
        if not (flush or old or self._cut or self.bytes >= self._flush_bytes):
            return None
        count = self._range()
        if not count:
            return None
        records = [self._records[index] for index in range(count)]
        return File(self._names.key(records[0]), records, self.end, records[-1].position)

    def written(self, end: Position) -> None:
        """The list now reaches ``end``: by our own file, or by another writer's that we adopt."""
        if self.end is not None and end <= self.end:
            return
        self.end = end
        while self._records and self._records[0].position <= end:
            self._records.popleft()
            self._times.popleft()
            self.bytes -= self._sizes.popleft()
        self._dead, self._cut = 0, False
        waiting, self._records = self._records, deque()
        for record in waiting:
            self._note(record)
            self._records.append(record)

    def _note(self, record: Record) -> None:
        """Whether the next file can grow no more, seen as records come: the day changes, or the dead are many."""
        self._dead += len(record.outcome.payload) if isinstance(record.outcome, Dead) else 0
        last = self._records[-1] if self._records else record
        if self._dead >= DEAD_BYTES or record.arrived_ms // DAY_MS != last.arrived_ms // DAY_MS:
            self._cut = True

    def _range(self) -> int:
        """How many records the next file holds: up to another day, or a bound, and never half an aggregate."""
        count = size = dead = 0
        day = self._records[0].arrived_ms // DAY_MS
        for index, record in enumerate(self._records):
            if record.arrived_ms // DAY_MS != day and count == index:
                return count
            size += self._sizes[index]
            dead += len(record.outcome.payload) if isinstance(record.outcome, Dead) else 0
            if record.whole:
                count = index + 1
                if size >= self._flush_bytes or dead >= DEAD_BYTES:
                    return count
        return count


def size_of(record: Record) -> int:
    """What a settled record holds in memory, roughly: its share of its batch's rows, or its payload."""
    outcome = record.outcome
    if isinstance(outcome, Enriched):
        return RECORD_BYTES + int(outcome.table.nbytes) // max(1, outcome.table.num_rows)
    return RECORD_BYTES + (len(outcome.payload) + len(outcome.traceback) if isinstance(outcome, Dead) else 0)
