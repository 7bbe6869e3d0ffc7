"""Dead letters in a store, one object after another."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson

from pipeline.record import Position, Record
from pipeline.stores.base import ObjectStore
from pipeline.table.names import LETTERS, is_day
from pipeline.table.sink_letters import WRONG, position_of
from pipeline.table.staged_letters import read_letters

FIRST_DAY, LAST_DAY = date.min.isoformat(), date.max.isoformat()


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. ``key``: its object. ``said``: its line without the payload. ``place``: ``dt=<day>/<stream
    created>-<shard>``, the shard and day of its record."""

    key: str
    place: str
    position: Position
    said: Mapping[str, Any]
    payload: bytes

    @property
    def record_id(self) -> str:
        """``<stream>/<shard>/<sequence>/<sub>`` of the record that became this letter."""
        return str(self.said["record_id"])

    def record(self) -> Record:
        """Return the record of the letter, to be tried again."""
        arrived_ms = round(datetime.fromisoformat(self.said["arrived_at"]).timestamp() * 1000)
        key = self.said["partition_key"]
        sequence, sub = str(self.position.sequence), self.position.sub
        return Record(self.said["shard_id"], self.payload, key, sequence, sub, arrived_ms)

    def fields(self) -> dict[str, Any]:
        """Return the fields that an expression of ``--where`` sees: the line, and its payload as JSON (``data``) or
        ``data_text``."""
        fields = {name: value for name, value in self.said.items() if name != "sha256"}
        try:
            return fields | {"data": orjson.loads(self.payload)}
        except ValueError:
            return fields | {"data_text": self.payload.decode("utf-8", "replace")}


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are selected. ``since`` and ``until``: of their arrival, without the end. ``reason``: a part of it,
    in any case. ``where``: whether a letter with these :meth:`Letter.fields` is selected."""

    kind: str = ""
    reason: str = ""
    shard_id: str = ""
    model_version: str = ""
    since: datetime | None = None
    until: datetime | None = None
    where: Callable[[Mapping[str, Any]], bool] | None = None

    def wants(self, letter: Letter) -> bool:
        """Whether the letter is selected."""
        said = letter.said
        arrived_at = datetime.fromisoformat(said["arrived_at"])
        return (
            (not self.kind or said["kind"] == self.kind)
            and (not self.reason or self.reason.casefold() in said["reason"].casefold())
            and (not self.shard_id or said["shard_id"] == self.shard_id)
            and (not self.model_version or said["model_version"] == self.model_version)
            and (self.since is None or arrived_at >= self.since)
            and (self.until is None or arrived_at < self.until)
            and (self.where is None or self.where(letter.fields()))
        )

    def wants_of(self, match: re.Match[str]) -> bool:
        """Whether an object of that name may have selected letters."""
        days = (_day(self.since) or FIRST_DAY, _day(self.until) or LAST_DAY)
        return days[0] <= match["day"] <= days[1] and self.shard_id in ("", match["shard"])


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).date().isoformat()


@dataclass(frozen=True, slots=True)
class LetterObject:
    """An object of dead letters. ``body``: its lines. ``match``: the parts of its name (:data:`LETTERS`)."""

    key: str
    match: re.Match[str]
    body: bytes

    @property
    def place(self) -> str:
        """``dt=<day>/<number>-<shard>``: the beginning of the object's name."""
        return f"dt={self.match['day']}/{self.match['list']}"

    @property
    def table_file(self) -> str:
        """The key of the table's file that may name it."""
        return f"{self.place}-{self.match['sequence']}-{self.match['sub']}.parquet"

    def letters(self) -> Iterator[Letter]:
        """Return its letters in their order. A line that is not a dead letter of this object is skipped."""
        for line in self.body.splitlines():
            try:
                said = orjson.loads(line)
                position = position_of(self.match, said)
                payload = base64.b64decode(said.pop("payload_base64"), validate=True)
                if any(not isinstance(said[name], str) for name in ("kind", "reason", "traceback", "model_version")):
                    continue
            except WRONG:
                continue
            yield Letter(self.key, self.place, position, said, payload)


def objects(store: ObjectStore, chosen: LetterFilter) -> Iterator[LetterObject]:
    """Yield the objects that may have selected letters, the oldest day first. Memory holds one object."""
    for key in store.list("dt="):
        match = LETTERS.fullmatch(key)
        if match is not None and is_day(match["day"]) and chosen.wants_of(match):
            body = read_letters(store, key)
            if body:
                yield LetterObject(key, match, body)


def find(store: ObjectStore, record_id: str) -> Iterator[LetterObject]:
    """Yield the objects that may have letters of one record: one, and one more for each sink that refused its row."""
    try:
        _, shard_id, sequence, sub = record_id.rsplit("/", 3)
        position = Position(int(sequence), int(sub))
    except ValueError:
        return
    for key in _candidates(store, shard_id, position):
        body = read_letters(store, key)
        match = LETTERS.fullmatch(key)
        if body and match:
            yield LetterObject(key, match, body)


def _candidates(store: ObjectStore, shard_id: str, position: Position) -> list[str]:
    """Return the keys of objects that may have the record's letter: in each list of the shard, the last object that
    begins at or before the record; and the objects of sinks."""
    before: dict[str, tuple[Position, list[str]]] = {}
    for key in store.list("dt="):
        match = LETTERS.fullmatch(key)
        if match is None or match["shard"] != shard_id:
            continue
        first = Position(int(match["sequence"]), int(match["sub"]))
        name = f"{match['list']}~{match['sink'] or ''}"
        best, keys = before.get(name, (Position(-1, 0), []))
        if first <= position and first >= best:
            before[name] = (first, [*keys, key] if first == best else [key])
    return [key for _, keys in before.values() for key in keys]
