"""Dead letters of a single sink: each is an object of one line, named after its record, with its own SHA-256.

The record of such a letter has a row in the table, because only that sink could not store it. No file of the table
names the letter. So the line itself proves that it is complete, and an audit compares it with its key and with the row.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.contents import Contents
from pipeline.table.names import LETTERS
from pipeline.table.staged_letters import read_letters

DIGEST = "sha256"
"""The last field of the line: the hash of the line without this field."""

KIND = "sink"
"""Value of the field ``kind`` of such a letter."""

TEXTS = ("stream", "reason", "traceback", "model_version")
"""Fields that must hold text."""

WRONG = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""Errors from parsing a line that is not such a letter."""


def slug(sink: str) -> str:
    """Return a sink's name as a part of a key, in characters that every store and shell accepts."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", sink).strip("-")


def with_digest(line: bytes) -> bytes:
    """Return a letter's line with its digest, as it is written."""
    letter = orjson.loads(line)
    return orjson.dumps({**letter, DIGEST: hashlib.sha256(orjson.dumps(letter)).hexdigest()}) + b"\n"


def is_letter(key: str, body: bytes) -> bool:
    """Return whether the object is a letter that belongs at this key and is unchanged."""
    try:
        _letter(key, body)
    except WRONG:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SinkLetter:
    """A complete letter, and the record it belongs to. ``list``: the list of files that has the record's row."""

    key: str
    list: str
    position: Position
    sink: str
    stream: str
    partition_key: str | None
    arrived_ms: int


@dataclass(slots=True)
class SinkLetters:
    """All such letters of a table, while they are compared with its files.

    ``count``: how many objects have such a key. ``faults``: keys, each with what is wrong there.
    """

    count: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    _waiting: dict[str, dict[Position, list[SinkLetter]]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ObjectStore, keys: Iterable[str]) -> SinkLetters:
        """Read all letters among ``keys``. Memory holds one body at a time, and the identity of each letter."""
        found = cls()
        for key in keys:
            if (match := LETTERS.fullmatch(key)) is not None and match["sink"] is not None:
                found.count += 1
                found._read(store, key)
        return found

    def held_against(self, name: str, contents: Contents) -> None:
        """Compare the letters in the range of this file of list ``name`` with its rows, and drop them."""
        waiting = self._waiting.get(name)
        if not waiting:
            return
        first, last = contents.first, contents.last
        within = [each for each in waiting if first is not None and last is not None and first <= each <= last]
        places = {position: row for row, position in enumerate(contents.positions)} if within else {}
        for position in within:
            row = places.get(position)
            for letter in waiting.pop(position):
                if why := "its record has no row" if row is None else _differs(letter, contents.rows, row):
                    self.faults.append((letter.key, why))

    def of_no_row(self, lists: Mapping[str, tuple[Position, Position]]) -> Iterator[tuple[str, str]]:
        """Yield the letters inside a list's range that no file had a row for. Call it after all files."""
        for name, waiting in self._waiting.items():
            begins, reached = lists.get(name, (Position(0, 0), Position(-1, 0)))
            for position, letters in waiting.items():
                if begins <= position <= reached:
                    yield from ((letter.key, "its record has no row") for letter in letters)

    def _read(self, store: ObjectStore, key: str) -> None:
        body = read_letters(store, key, otherwise=b"")
        if body is None:
            self.faults.append((key, "is not a file: it is a link, a pipe, or gone"))
            return
        try:
            letter = _letter(key, body)
        except WRONG as error:
            self.faults.append((key, f"is not a dead letter of its record ({error or type(error).__name__})"))
            return
        beside = self._waiting.setdefault(letter.list, {}).setdefault(letter.position, [])
        if any(each.sink == letter.sink for each in beside):
            self.faults.append((key, f"is a second letter of the same record and sink {letter.sink}"))
        beside.append(letter)


def _letter(key: str, body: bytes) -> SinkLetter:
    match = LETTERS.fullmatch(key)
    if match is None or match["sink"] is None:
        raise ValueError("its key is not that of a sink's dead letter")
    said = _said(body)
    where = position_of(match, said)
    sink = str(said["sink"])
    if said["kind"] != KIND or slug(sink) != match["sink"]:
        raise ValueError(f"it is of sink {sink!r}")
    if where != Position(int(match["sequence"]), int(match["sub"])):
        raise ValueError(f"it is of position {where}")
    texts = [said[name] for name in TEXTS]
    key_said = said["partition_key"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(key_said, str | None):
        raise TypeError("a field that must be text is not")
    arrived_ms = round(datetime.fromisoformat(said["arrived_at"]).timestamp() * 1000)
    return SinkLetter(key, match["list"], where, sink, said["stream"], key_said, arrived_ms)


def _said(body: bytes) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(body)
    digest = said.pop(DIGEST)
    if body != orjson.dumps({**said, DIGEST: digest}) + b"\n":
        raise ValueError("it is not one line in the form that is written")
    if digest != hashlib.sha256(orjson.dumps(said)).hexdigest():
        raise ValueError("its bytes are not those that were written")
    return said


def position_of(match: re.Match[str], letter: Mapping[str, Any]) -> Position:
    """Return the position of a letter in an object whose key gave ``match``.

    :raises ValueError: the letter's fields contradict each other or the key. Also any other of :data:`WRONG`.
    """
    sequence, sub, shard = letter["sequence_number"], letter["sub_sequence_number"], letter["shard_id"]
    position = Position(int(str(sequence)), int(str(sub)))
    if shard != match["shard"]:
        raise ValueError(f"it is of shard {shard!r}")
    if letter["record_id"] != f"{letter['stream']}/{shard}/{sequence}/{sub}":
        raise ValueError("its record_id is that of another record")
    if datetime.fromisoformat(str(letter["arrived_at"])).date().isoformat() != match["day"]:
        raise ValueError("it arrived on another day")
    base64.b64decode(letter["payload_base64"], validate=True)
    return position


def _differs(letter: SinkLetter, rows: pa.Table, row: int) -> str:
    """Why the letter does not match this row; empty if it does."""
    stream = (rows["record_id"][row].as_py() or "").partition("/")[0]
    said = stream, rows["partition_key"][row].as_py(), rows["arrived_at"][row].cast(pa.int64()).as_py()
    if said == (letter.stream, letter.partition_key, letter.arrived_ms):
        return ""
    return "has another stream, partition key or time of arrival than its record's row"
