"""Dead letters of one sink alone: each an object of one line that carries its own SHA-256, under its record's name.

The record of such a letter has its row in the table, since only that sink could not carry it. No file names the letter:
so the line says by itself whether it is whole, and is held against its name and against the row.
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
"""The line's last field: of the same line without it."""

KIND = "sink"

TEXTS = ("stream", "reason", "traceback", "model_version")
"""Fields that hold text, whatever it is."""

WRONG = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""What comes of reading a letter that is none."""


def slug(sink: str) -> str:
    """A sink's name as part of a key, in characters that every store and shell can take."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", sink).strip("-")


def with_digest(line: bytes) -> bytes:
    """A letter's line as it is written."""
    letter = orjson.loads(line)
    return orjson.dumps({**letter, DIGEST: hashlib.sha256(orjson.dumps(letter)).hexdigest()}) + b"\n"


def is_letter(key: str, body: bytes) -> bool:
    """Whether the object is a letter of its name, byte for byte as it was written."""
    try:
        _letter(key, body)
    except WRONG:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SinkLetter:
    """A letter that is as it was written, and whose record it says that it is of."""

    key: str
    list: str
    position: Position
    sink: str
    stream: str
    partition_key: str | None
    arrived_ms: int


@dataclass(slots=True)
class SinkLetters:
    """Those of a table. ``faults``: keys, and what is wrong there; ``count``: objects that have such a name."""

    count: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    _waiting: dict[str, dict[Position, list[SinkLetter]]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ObjectStore, keys: Iterable[str]) -> SinkLetters:
        """Read all that have such a name. Memory holds one, and where the others belong."""
        found = cls()
        for key in keys:
            if (match := LETTERS.fullmatch(key)) is not None and match["sink"] is not None:
                found.count += 1
                found._read(store, key)
        return found

    def held_against(self, name: str, contents: Contents) -> None:
        """One file of a list: its rows are what letters of its range are of."""
        waiting = self._waiting.get(name)
        if not waiting:
            return
        first, last = contents.first, contents.last
        within = [each for each in waiting if first is not None and last is not None and first <= each <= last]
        places = {position: row for row, position in enumerate(contents.positions)} if within else {}
        for position in within:
            row = places.get(position)
            for letter in waiting.pop(position):
                if why := "is of a record that has no row" if row is None else _differs(letter, contents.rows, row):
                    self.faults.append((letter.key, why))

    def of_no_row(self, lists: Mapping[str, tuple[Position, Position]]) -> Iterator[tuple[str, str]]:
        """After all files: letters of records between a list's beginning and its end that no file has."""
        for name, waiting in self._waiting.items():
            begins, reached = lists.get(name, (Position(0, 0), Position(-1, 0)))
            for position, letters in waiting.items():
                if begins <= position <= reached:
                    yield from ((letter.key, "is of a record that has no row") for letter in letters)

    def _read(self, store: ObjectStore, key: str) -> None:
        body = read_letters(store, key, otherwise=b"")
        if body is None:
            self.faults.append((key, "is no file: a link, a pipe, or gone"))
            return
        try:
            letter = _letter(key, body)
        except WRONG as error:
            self.faults.append((key, f"is no dead letter of its record ({error or type(error).__name__})"))
            return
        beside = self._waiting.setdefault(letter.list, {}).setdefault(letter.position, [])
        if any(each.sink == letter.sink for each in beside):
            self.faults.append((key, f"is the second of its record and of {letter.sink}"))
        beside.append(letter)


def _letter(key: str, body: bytes) -> SinkLetter:
    match = LETTERS.fullmatch(key)
    if match is None or match["sink"] is None:
        raise ValueError("it is under another name")
    said = _said(body)
    where = position_of(match, said)
    sink = str(said["sink"])
    if said["kind"] != KIND or slug(sink) != match["sink"]:
        raise ValueError(f"it is of {sink!r}")
    if where != Position(int(match["sequence"]), int(match["sub"])):
        raise ValueError(f"it is of {where}")
    texts = [said[name] for name in TEXTS]
    key_said = said["partition_key"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(key_said, str | None):
        raise TypeError("it has no text where there should be some")
    arrived_ms = round(datetime.fromisoformat(said["arrived_at"]).timestamp() * 1000)
    return SinkLetter(key, match["list"], where, sink, said["stream"], key_said, arrived_ms)


def _said(body: bytes) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(body)
    digest = said.pop(DIGEST)
    if body != orjson.dumps({**said, DIGEST: digest}) + b"\n":
        raise ValueError("it is not one line as it is written")
    if digest != hashlib.sha256(orjson.dumps(said)).hexdigest():
        raise ValueError("its bytes are not those that were written")
    return said


def position_of(match: re.Match[str], letter: Mapping[str, Any]) -> Position:
    """Of a letter in an object of that name, once everything in it that says where it belongs agrees."""
    sequence, sub, shard = letter["sequence_number"], letter["sub_sequence_number"], letter["shard_id"]
    position = Position(int(str(sequence)), int(str(sub)))
    if shard != match["shard"]:
        raise ValueError(f"it is of {shard!r}")
    if letter["record_id"] != f"{letter['stream']}/{shard}/{sequence}/{sub}":
        raise ValueError("its record_id is another record's")
    if datetime.fromisoformat(str(letter["arrived_at"])).date().isoformat() != match["day"]:
        raise ValueError("it arrived on another day")
    base64.b64decode(letter["payload_base64"], validate=True)
    return position


def _differs(letter: SinkLetter, rows: pa.Table, row: int) -> str:
    """Why it is not of this row, if so."""
    stream = (rows["record_id"][row].as_py() or "").partition("/")[0]
    said = stream, rows["partition_key"][row].as_py(), rows["arrived_at"][row].cast(pa.int64()).as_py()
    if said == (letter.stream, letter.partition_key, letter.arrived_ms):
        return ""
    return "says another stream, partition key or time of arrival than the record's row"
