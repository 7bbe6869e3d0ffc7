"""The metadata of a table's file: in its Parquet footer, and on its object."""

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
"""Names of metadata both in the footer and on the object. Lower case, since S3 lowers the case of names.

``END`` is the position of the last row or dead letter, ``PREVIOUS_END`` that of the file before. ``WHOLE`` is
:data:`YES`, or :data:`NO` if the file ends inside an aggregate; the next file must then have the rest.
``LETTERS_SHA256`` is the hash of the lines of the file's dead letters; empty if there are none, or if another table
keeps them.
"""

ON_BOTH = (END, WHOLE, PREVIOUS_END, WRITER, ROWS, DEAD, LETTERS_SHA256)

KEY = "penstock.key"
"""In the footer only: the key that the file was written to."""

DEAD_POSITIONS = "penstock.dead-positions"
"""In the footer only: positions of the file's dead letters (:mod:`pipeline.table.dead_positions`), without their texts.
"""

REDRIVEN = "penstock-redriven"
"""In the footer and on the object of a file of redriven rows: how many there are. It has :data:`WRITER`, too."""

REDRIVEN_POSITIONS = "penstock.redriven-positions"
"""In the footer alone: the places of those rows (:mod:`pipeline.table.dead_positions`)."""

LENGTH_AND_MAGIC = 8
"""Bytes after a Parquet footer: its length in four bytes, and the magic ``PAR1`` (Parquet format)."""

MAGIC = b"PAR1"

MOST_FOOTER = 16 * 1024 * 1024
"""The largest footer that is read, in bytes. Positions take at most 64 KiB, and a column some hundred bytes for each
million rows.
"""

_WRITER = re.compile(r"[A-Za-z0-9._-]{0,100}")
"""A writer's id; it becomes a part of keys."""


def end_of(metadata: Mapping[str, str]) -> Position:
    """Return the position of the file's last row or dead letter, from its metadata.

    :raises KeyError: the metadata does not have it.
    :raises ValueError: it is not a position.
    """
    return Position.parse(metadata[END])


def ends_whole(metadata: Mapping[str, str]) -> bool:
    """Return whether the file ends with the end of a Kinesis record. False: it ends inside an aggregate.

    :raises ValueError: the metadata does not say.
    """
    return (YES, NO).index(metadata[WHOLE]) == 0


def goes_on(first: Position, previous_end: Position | None, ended: Mapping[str, str]) -> bool:
    """Return whether a file that begins with ``first`` continues the file with the metadata ``ended``.

    If that file ends inside an aggregate, the next one must begin with the aggregate's next user record. Otherwise it
    must begin with another Kinesis record. ``previous_end`` may then be the end of the whole Kinesis record: a session
    that begins at KCL's checkpoint does not know how many user records the record held.
    """
    end = end_of(ended)
    if ends_whole(ended):
        return first.sequence > end.sequence and previous_end in (end, end.end_of_record)
    return first == Position(end.sequence, end.sub + 1) and previous_end == end


def previous_end_of(metadata: Mapping[str, str]) -> Position | None:
    """Return where the file before this one ended, from this one's metadata; None for a shard's first file."""
    text = metadata[PREVIOUS_END]
    return Position.parse(text) if text else None


def is_ours(metadata: Metadata) -> bool:
    """Return whether the metadata is complete and well-formed, as on every file of a table."""
    try:
        end_of(metadata), ends_whole(metadata)
        return all(name in metadata for name in ON_BOTH) and _WRITER.fullmatch(metadata[WRITER]) is not None
    except (KeyError, ValueError):
        return False


def is_redriven(metadata: Metadata) -> bool:
    """Whether it is what files of redriven rows carry."""
    return REDRIVEN in metadata and _WRITER.fullmatch(metadata.get(WRITER, "")) is not None


def footer_of(body: bytes) -> dict[str, str]:
    """Return a Parquet file's key-value metadata; empty if the file cannot be parsed."""
    return texts_of(parsed(body))


def parsed(body: bytes) -> pq.FileMetaData | None:
    """Return a Parquet file's metadata; None if the file cannot be parsed."""
    try:
        return pq.read_metadata(pa.BufferReader(body))
    except (pa.ArrowException, OSError, ValueError):
        return None


def texts_of(metadata: pq.FileMetaData | None) -> dict[str, str]:
    """Return the key-value metadata of a parsed file; empty if it has none."""
    found = (metadata and metadata.metadata) or {}
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in found.items()}


def footer_in(store: ObjectStore, key: str) -> dict[str, str]:
    """As :func:`footer_of`, for an object. Reads only the footer, however many rows there are."""
    return footer_of(without_rows(store, key))


def without_rows(store: ObjectStore, key: str) -> bytes:
    """Return an object's footer as a Parquet file without rows, whose schema and metadata can be read. Empty if there
    is none.
    """
    end = store.end(key, LENGTH_AND_MAGIC) or b""
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > MOST_FOOTER:
        return b""
    return MAGIC + (store.end(key, length + LENGTH_AND_MAGIC) or b"")
