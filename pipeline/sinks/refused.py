"""Rows that one sink cannot store: each becomes a dead letter of that sink, while other sinks have the row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.errors import Fatal
from pipeline.record import Dead, Record, Shard
from pipeline.sinks.dead_letters import letter_key, line
from pipeline.stores.base import ObjectStore
from pipeline.table.names import Names, letters_apart
from pipeline.table.schema import TableSchema
from pipeline.table.sink_letters import is_letter, slug, with_digest
from pipeline.table.staged_letters import read_letters

AGAIN = "again"
"""In the key of a letter if another object has the plain key."""


class RefusedRow(NamedTuple):
    """A record, with its payload, whose row the sink cannot store, and why."""

    record: Record
    reason: str


class RefusedLetters:
    """The dead letters of rows that ``sink`` cannot store, in the store of all dead letters.

    Each letter is an object of its own, ``dt=…/<stream created>-<shard>-<sequence>-<sub>~<sink>.jsonl``. The record
    decides the key, and a key is taken once: so there is one letter, however often the row is refused again after a
    crash. If another object has the key, the letter's key contains :data:`AGAIN`.
    """

    def __init__(
        self,
        store: ObjectStore,
        schema: TableSchema,
        sink: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._schema = schema
        self._sink = sink
        self._ending = f"~{slug(sink)}.jsonl"
        self._now = now

    def put(self, shard: Shard, refused: RefusedRow) -> None:
        """Write the letter; it is durable when this returns. Blocks, may be repeated, and raises what stores raise.

        :raises Fatal: another object has the key.
        """
        dead = Dead(refused.record.data, refused.reason, "", 1, "sink", sink=self._sink)
        record = replace(refused.record, outcome=dead)
        plain = letter_key(Names(shard), record)
        body = with_digest(line(record, dead, self._schema, self._now()))
        for name in (plain, letters_apart(plain, AGAIN)):
            key = name.removesuffix(".jsonl") + self._ending
            if self._store.put_new(key, body, {}) or is_letter(key, read_letters(self._store, key) or b""):
                return
        raise Fatal(f"{key} has the name of a dead letter but is not one. Remove it")
