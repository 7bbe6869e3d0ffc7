"""What a table's file says of itself, in its footer and on its object."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.stores.base import Metadata

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
        return all(name in metadata for name in ON_BOTH)
    except (KeyError, ValueError):
        return False


def footer_of(body: bytes) -> dict[str, str]:
    """What a Parquet file's footer carries; nothing if it is none that can be read."""
    try:
        found = pq.read_metadata(pa.BufferReader(body)).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return {}
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in found.items()}
