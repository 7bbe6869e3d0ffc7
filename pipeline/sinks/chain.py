"""Plans each shard's files as a linked list: the position where a file begins decides its name, and a name is taken
once.

Pure: settled records go in, files to write come out, and their results go in. ``now`` is an argument, in seconds of any
clock that never goes back. docs/exactly-once.md describes the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.record import Dead, Enriched, Position, Record, settled_weight
from pipeline.table import dead_positions
from pipeline.table.footer import DEAD, END, LETTERS_SHA256, NO, PREVIOUS_END, ROWS, WHOLE, WRITER, YES

if TYPE_CHECKING:
    from pipeline.table.names import Names

LETTERS_BYTES = 8 * 1024 * 1024
"""A file is cut before its dead letters exceed about this size: they are staged, and read by an adopter, as a whole."""

POSITIONS_BYTES = 64 * 1024
"""A file is cut before the positions of its dead letters exceed this size: every reader parses the footer."""

LETTER_BYTES = 600
"""Bytes of a dead letter besides payload, reason, traceback and partition key."""

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class File:
    """A contiguous range of a shard, to be written under ``key``.

    ``previous_end``: where the list ends now. ``end``: position of the last record.
    """

    key: str
    records: Sequence[Record]
    previous_end: Position | None
    end: Position

    def before(self, position: Position) -> File:
        """Return the same file, ended before ``position``, which must be after its first record."""
        records = [record for record in self.records if record.position < position]
        return replace(self, records=records, end=records[-1].position)

    @property
    def dead(self) -> list[Position]:
        """Positions of its dead letters."""
        return [record.position for record in self.records if isinstance(record.outcome, Dead)]

    def metadata(self, writer: str, letters_sha256: str = "") -> dict[str, str]:
        """Return the metadata for the footer and the object (:mod:`pipeline.table.footer`)."""
        rows = sum(isinstance(record.outcome, Enriched) for record in self.records)
        return {
            END: str(self.end),
            WHOLE: YES if self.records[-1].whole else NO,
            PREVIOUS_END: str(self.previous_end or ""),
            WRITER: writer,
            ROWS: str(rows),
            DEAD: str(len(self.records) - rows),
            LETTERS_SHA256: letters_sha256,
        }


@dataclass(slots=True)
class _Piece:
    """Records of one future file, all of one day. ``sealed``: no more are added."""

    day: int
    opened_s: float
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    letters_bytes: int = 0
    positions: dead_positions.Size = field(default_factory=dead_positions.Size)
    sealed: bool = False

    def put(self, records: Sequence[Record], size_bytes: int, letters_bytes: int) -> None:
        self.records.extend(records)
        self.bytes += size_bytes
        if letters_bytes:
            self.letters_bytes += letters_bytes
            for record in records:
                if isinstance(record.outcome, Dead):
                    self.positions.add(record.position)

    def has_room(self, flush_bytes: int, size_bytes: int = 0, letters_bytes: int = 0) -> bool:
        """Whether this much can be added before it is full."""
        more = letters_bytes // LETTER_BYTES
        return (
            self.bytes + size_bytes < flush_bytes
            and self.letters_bytes + letters_bytes < LETTERS_BYTES
            and self.positions.bytes + more * dead_positions.MOST_EACH < POSITIONS_BYTES
        )


class Chain:
    """One shard session's buffer, and the end of the shard's list of files.

    ``end`` is the end of the last file that this session knows: its own, one it adopted, or the checkpoint it began at.
    ``bytes`` is the approximate size of the buffer. A file stays in the buffer until :meth:`written` has passed it. A
    file may end at any record, also inside an aggregate.
    """

    def __init__(self, names: Names, *, flush_interval_s: float, flush_bytes: int, end: Position | None = None) -> None:
        self.end = end
        self.bytes = 0
        self._names = names
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = flush_bytes
        self._pieces: deque[_Piece] = deque()

    def __len__(self) -> int:
        return sum(len(piece.records) for piece in self._pieces)

    def add(self, records: Sequence[Record], now: float) -> None:
        """Take settled records that follow those taken before. Records that the list already has are ignored."""
        fresh = _beyond(self.end, records)
        if fresh:
            self._place(fresh, now)
            self._weigh()

    def due_at(self) -> float | None:
        """The time when :meth:`next` will return a file; None if no record waits."""
        if not self._pieces:
            return None
        piece = self._pieces[0]
        return piece.opened_s + (0.0 if piece.sealed else self._flush_interval_s)

    def next(self, now: float) -> File | None:
        """Return the file to write now, if any; the same one until :meth:`written` is called."""
        due_at = self.due_at()
        if due_at is None or now < due_at:
            return None
        piece = self._pieces[0]
        piece.sealed = True
        return File(self._names.key(piece.records[0]), piece.records, self.end, piece.records[-1].position)

    def seal(self) -> Position | None:
        """Make everything taken so far due now. Return its last position, or None if nothing waits."""
        if not self._pieces:
            return self.end
        self._pieces[-1].sealed = True
        return self._pieces[-1].records[-1].position

    def written(self, end: Position) -> None:
        """Note that the list now reaches ``end``, by our own file or by adopted files of other writers.

        Records that the list has are dropped. The rest of a file that was due is due again, under its new name.
        """
        self.end = end if self.end is None else max(self.end, end)
        while self._pieces and self._pieces[0].records[-1].position <= end:
            self._pieces.popleft()
        if self._pieces:
            piece = self._pieces[0]
            if piece.records[0].position <= end:
                piece.records = list(_beyond(end, piece.records))
                piece.bytes = settled_weight(piece.records)
        self._weigh()

    def clear(self) -> None:
        """Drop the buffer: the lease is lost."""
        self._pieces.clear()
        self._weigh()

    def _place(self, records: Sequence[Record], now: float) -> None:
        """Sort records of any days into pieces: nearly always all of them at once into one, else by halves."""
        days = {record.arrived_ms // DAY_MS for record in records}
        size, letters = settled_weight(records), letters_size_of(records)
        last = self._pieces[-1] if self._pieces and not self._pieces[-1].sealed else _Piece(0, now)
        if len(records) == 1 or (len(days) == 1 and last.has_room(self._flush_bytes, size, letters)):
            self._put(records, size, letters, now)
            return
        half = len(records) // 2
        self._place(records[:half], now)
        self._place(records[half:], now)

    def _put(self, records: Sequence[Record], size_bytes: int, letters_bytes: int, now: float) -> None:
        """Add to the last piece, or to a new one if the day differs or the last one is full."""
        day = records[0].arrived_ms // DAY_MS
        last = self._pieces[-1] if self._pieces else None
        if last is None or last.sealed or last.day != day or not last.has_room(1 << 62, 0, letters_bytes):
            if last is not None:
                last.sealed = True
            last = _Piece(day, now)
            self._pieces.append(last)
        last.put(records, size_bytes, letters_bytes)
        last.sealed = not last.has_room(self._flush_bytes)

    def _weigh(self) -> None:
        self.bytes = sum(piece.bytes for piece in self._pieces)


def letters_size_of(records: Sequence[Record]) -> int:
    """Return the approximate size of the dead letters among the records, in bytes."""
    return sum(
        [
            LETTER_BYTES + len(record.partition_key or "") + dead.size_bytes + len(dead.payload) // 3
            for record in records
            if isinstance(dead := record.outcome, Dead)
        ]
    )


def _beyond(end: Position | None, records: Sequence[Record]) -> Sequence[Record]:
    """The records after ``end``; the input is in sequence order."""
    if end is None or not records or records[0].position > end:
        return records
    return [record for record in records if record.position > end]
