"""Rows that a sink cannot carry: dead letters of that sink alone, while the other sinks have their row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.record import Dead, Record, Shard
from pipeline.sinks.dead_letters import letter_key, line
from pipeline.stores.base import ObjectStore
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema


class Refused(NamedTuple):
    """``record``: with what its producer wrote; ``reason``: why the sink cannot carry its row."""

    record: Record
    reason: str


class RefusedLetters:
    """The dead letters of the rows that ``sink`` cannot carry, in the store of all dead letters.

    A letter is an object of its own, ``dt=…/<stream created>-<shard>-<sequence>-<sub>~<sink>.jsonl``. A record decides
    its name, and a name is taken once: so there is one, however often a row is refused again after a crash.
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
        key = letter_key(Names(shard), record).removesuffix(".jsonl") + self._ending
        self._store.put_new(key, line(record, dead, self._schema, self._now()), {})


def slug(sink: str) -> str:
    """A sink's name as part of a key, in characters that every store and shell can take."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", sink).strip("-")
