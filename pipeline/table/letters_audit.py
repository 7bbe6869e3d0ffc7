"""A table's dead letters held against its files: the objects that people read are what the files name, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import orjson

from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.contents import Contents
from pipeline.table.footer import LETTERS_SHA256, WRITER
from pipeline.table.names import LETTERS, TABLE_FILE, is_day, letters_key
from pipeline.table.staged_letters import apart_key, sha256_of

WRONG = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""What comes of reading a letter that is none."""


def found_letters(store: ObjectStore, key: str, footer: Mapping[str, str]) -> tuple[str, bytes] | None:
    """The object with the dead letters that a file's footer names, and its lines; None if there is none."""
    for name in (letters_key(key), apart_key(key, footer[WRITER])):
        lines = store.get(name)
        if lines is not None and sha256_of(lines) == footer[LETTERS_SHA256]:
            return name, lines
    return None


def faults(key: str, contents: Contents, lines: bytes) -> Iterator[str]:
    """What is wrong with the lines of a file's dead letters, each by itself and together."""
    positions: list[Position] = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            positions.append(_position(key, orjson.loads(line)))
        except WRONG as error:
            yield f"line {number} is no dead letter of this file ({error or type(error).__name__})"
            return
    if positions != contents.dead:
        yield f"holds {len(positions)} letters, and not those of the {len(contents.dead)} positions in the footer"


def unnamed(
    letters: ObjectStore, table: ObjectStore, known: set[str], lists: Mapping[str, tuple[Position, bool]]
) -> Iterator[tuple[str, str]]:
    """Objects among the dead letters that no file names, and why they should not be there.

    ``known``: those that files name. ``lists``: where each list of files begins, and whether something was before it
    that this table does not have: what was then dead may be another table's, whose dead letters lie here as well.
    """
    for key in letters.list(""):
        if key in known:
            continue
        match = LETTERS.fullmatch(key)
        if match is None or not is_day(match["day"]):
            yield key, "is no object of dead letters"
        elif match["sink"] is None and (why := _why(table, match, lists)):
            yield key, why


def of_sinks(letters: ObjectStore) -> int:
    """Objects of dead letters that belong to one sink alone."""
    return sum((match := LETTERS.fullmatch(key)) is not None and match["sink"] is not None for key in letters.list(""))


def _why(table: ObjectStore, match: re.Match[str], lists: Mapping[str, tuple[Position, bool]]) -> str:
    place = f"dt={match['day']}/{match['list']}-{match['sequence']}-{match['sub']}.parquet"
    if match["list"] not in lists:
        return ""
    begins, continued = lists[match["list"]]
    if continued and Position(int(match["sequence"]), int(match["sub"])) < begins:
        return ""
    if TABLE_FILE.fullmatch(place) and table.head(place) is not None:
        return "" if match["writer"] else _written_meanwhile(table, place)
    return "is of a file that the table does not have, or of another table's: give each a dead_letter.url of its own"


def _written_meanwhile(table: ObjectStore, place: str) -> str:
    metadata = table.head(place) or {}
    return "" if metadata.get(LETTERS_SHA256) else f"is of {place}, which names no dead letters"


def _position(key: str, letter: Mapping[str, object]) -> Position:
    """Of a letter, once everything in it that says where it belongs agrees."""
    match = TABLE_FILE.fullmatch(key)
    assert match is not None
    sequence, sub, shard = letter["sequence_number"], letter["sub_sequence_number"], letter["shard_id"]
    position = Position(int(str(sequence)), int(str(sub)))
    if shard != match["shard"]:
        raise ValueError(f"it is of {shard!r}")
    if letter["record_id"] != f"{letter['stream']}/{shard}/{sequence}/{sub}":
        raise ValueError("its record_id is another record's")
    if datetime.fromisoformat(str(letter["arrived_at"])).date().isoformat() != match["day"]:
        raise ValueError("it arrived on another day")
    if not isinstance(letter["payload_base64"], str):
        raise TypeError("it has no payload")
    return position
