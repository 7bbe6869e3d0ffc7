"""Rows that a sink cannot carry: dead letters of that sink alone, while the other sinks have their row."""

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
"""In the name of a letter whose plain name something else has taken."""


class Refused(NamedTuple):
    """``record``: with what its producer wrote; ``reason``: why the sink cannot carry its row."""

    record: Record
    reason: str


class RefusedLetters:
    """The dead letters of the rows that ``sink`` cannot carry, in the store of all dead letters.

    A letter is an object of its own, ``dt=…/<stream created>-<shard>-<sequence>-<sub>~<sink>.jsonl``. A record decides
    its name, and a name is taken once: so there is one, however often a row is refused again after a crash. If what has
    taken the name is no such letter, the letter has :data:`AGAIN` in its name.
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

    def put(self, shard: Shard, refused: Refused) -> None:
        """Blocks; the letter is durable when this returns. Raises what stores raise, and may be repeated."""
        dead = Dead(refused.record.data, refused.reason, "", 1, "sink", sink=self._sink)
        record = replace(refused.record, outcome=dead)
        plain = letter_key(Names(shard), record)
        body = with_digest(line(record, dead, self._schema, self._now()))
        for name in (plain, letters_apart(plain, AGAIN)):
            key = name.removesuffix(".jsonl") + self._ending
            if self._store.put_new(key, body, {}) or is_letter(key, read_letters(self._store, key) or b""):
                return
        raise Fatal(f"{key} among the dead letters is in the way, and no dead letter. Remove it")
