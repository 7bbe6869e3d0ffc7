"""What a table's file says of itself, in its footer and on its object."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.stores.base import Metadata, ObjectStore

YES, NO = "yes", "no"

END, WHOLE, PREVIOUS_END, WRITER, ROWS, DEAD, LETTERS_SHA256 = (
    "penstock-end",
    "penstock-whole",
    "penstock-previous-end",
    "penstock-writer",
    "penstock-rows",
    "penstock-dead",
    "penstock-dead-sha256",
)
"""Metadata of a file, in its footer and on its object. S3 lowers the case of names.

``WHOLE`` is :data:`YES`, or :data:`NO` where the file ends within an aggregate, whose rest the next file must have. The
last is of the lines of its range's dead letters; empty if there are none, or if another table keeps them.
"""

ON_BOTH = (END, WHOLE, PREVIOUS_END, WRITER, ROWS, DEAD, LETTERS_SHA256)

KEY = "penstock.key"
"""In the footer alone: the name that the file was written under."""

DEAD_POSITIONS = "penstock.dead-positions"
"""In the footer alone: where its dead letters are (:mod:`pipeline.table.dead_positions`), and no word of theirs."""


LENGTH_AND_MAGIC = 8
"""Behind a footer: its length in four bytes, and four letters (Parquet format)."""

MAGIC = b"PAR1"

MOST_FOOTER = 16 * 1024 * 1024
"""No footer of ours has more: positions have 64 KiB, and a column some hundred bytes for each million rows."""

_WRITER = re.compile(r"[A-Za-z0-9._-]{0,100}")
"""It becomes a part of keys."""


def end_of(metadata: Mapping[str, str]) -> Position:
    return Position.parse(metadata[END])


def ends_whole(metadata: Mapping[str, str]) -> bool:
    """Whether all that the last Kinesis record holds is in the file, or in those before it.

    :raises ValueError: it does not say.
    """
    return (YES, NO).index(metadata[WHOLE]) == 0


def goes_on(first: Position, previous_end: Position | None, ended: Mapping[str, str]) -> bool:
    """Whether a file that begins with ``first`` goes on where another one ended, as that one's metadata say.

    Behind a file that ends within an aggregate, with the aggregate's next user record and nothing else. Behind any
    other file, with another Kinesis record: its session may have begun at KCL's checkpoint, which is behind the whole
    of a record and does not say how many user records that was.
    """
    end = end_of(ended)
    if ends_whole(ended):
        return first.sequence > end.sequence and previous_end in (end, end.end_of_record)
    return first == Position(end.sequence, end.sub + 1) and previous_end == end


def previous_end_of(metadata: Mapping[str, str]) -> Position | None:
    text = metadata[PREVIOUS_END]
    return Position.parse(text) if text else None


def is_ours(metadata: Metadata) -> bool:
    """Whether it is what files of a table carry."""
    try:
        end_of(metadata), ends_whole(metadata)
        return all(name in metadata for name in ON_BOTH) and _WRITER.fullmatch(metadata[WRITER]) is not None
    except (KeyError, ValueError):
        return False


def footer_of(body: bytes) -> dict[str, str]:
    """What a Parquet file's footer carries; nothing if it is none that can be read."""
    try:
        found = pq.read_metadata(pa.BufferReader(body)).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return {}
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in found.items()}


def footer_in(store: ObjectStore, key: str) -> dict[str, str]:
    """As :func:`footer_of`, of an object whose rows are not read, however many it has."""
    return footer_of(without_rows(store, key))


def without_rows(store: ObjectStore, key: str) -> bytes:
    """An object's footer as a Parquet file of its own: its columns and metadata can be read. Empty if it is none."""
    end = store.end(key, LENGTH_AND_MAGIC) or b""
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > MOST_FOOTER:
        return b""
    return MAGIC + (store.end(key, length + LENGTH_AND_MAGIC) or b"")
