"""Audits a table's dead letters: their objects must be exactly those that the table's files name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import orjson

from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.contents import Contents
from pipeline.table.footer import LETTERS_SHA256, WRITER
from pipeline.table.names import LETTERS, TABLE_FILE, is_day, letters_key
from pipeline.table.sink_letters import WRONG, position_of
from pipeline.table.staged_letters import apart_key, read_letters, sha256_of


def found_letters(store: ObjectStore, key: str, footer: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Find the object with the dead letters that a file's footer names. Return its key and lines, or None."""
    for name in (letters_key(key), apart_key(key, footer[WRITER])):
        lines = read_letters(store, name)
        if lines is not None and sha256_of(lines) == footer[LETTERS_SHA256]:
            return name, lines
    return None


def faults(key: str, contents: Contents, lines: bytes) -> Iterator[str]:
    """Yield what is wrong with the lines of a file's dead letters."""
    match = TABLE_FILE.fullmatch(key)
    assert match is not None
    positions: list[Position] = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            positions.append(position_of(match, orjson.loads(line)))
        except WRONG as error:
            yield f"line {number} is not a dead letter of this file ({error or type(error).__name__})"
            return
    if positions != contents.dead:
        yield f"holds other letters ({len(positions):,}) than the footer has positions of ({len(contents.dead):,})"


def unnamed(
    keys: Sequence[str], table: ObjectStore, known: set[str], lists: Mapping[str, tuple[Position, bool]]
) -> Iterator[tuple[str, str]]:
    """Yield the objects among the dead letters that no file names, each with the reason why it should not be there.

    ``keys``: all objects. ``known``: those that files name. ``lists``: for each list of files, where it begins, and
    whether it continues something that this table does not have. Dead letters from before that beginning may belong to
    another table that stores its dead letters here as well, and are accepted.
    """
    for key in keys:
        if key in known:
            continue
        match = LETTERS.fullmatch(key)
        if match is None or not is_day(match["day"]):
            yield key, "is not an object of dead letters"
        elif match["sink"] is None and (why := _why(table, match, lists)):
            yield key, why


def _why(table: ObjectStore, match: re.Match[str], lists: Mapping[str, tuple[Position, bool]]) -> str:
    place = f"dt={match['day']}/{match['list']}-{match['sequence']}-{match['sub']}.parquet"
    if match["list"] not in lists:
        return ""
    begins, continued = lists[match["list"]]
    if continued and Position(int(match["sequence"]), int(match["sub"])) < begins:
        return ""
    if TABLE_FILE.fullmatch(place) and table.head(place) is not None:
        return "" if match["writer"] else _written_meanwhile(table, place)
    return "is of a file that this table does not have; if it is another table's, give each its own dead_letter.url"


def _written_meanwhile(table: ObjectStore, place: str) -> str:
    metadata = table.head(place) or {}
    return "" if metadata.get(LETTERS_SHA256) else f"is of {place}, which names no dead letters"
