"""Answers to golden records: from a model that runs here, or from the rows of a table."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from consumer.tuning.trial import judged
from pipeline.diff.windows import opened
from pipeline.record import Dead, Record
from pipeline.stores.base import ObjectStore
from pipeline.table.names import REDRIVEN_FILE, TABLE_FILE, first_of
from pipeline.table.schema import IDENTITY

if TYPE_CHECKING:
    from consumer.config.settings import Settings

ID = "record_id"


@dataclass(frozen=True, slots=True)
class Answers:
    """The outcomes of golden records, which are numbered from 1. ``rows``: one row for each number in ``numbers``,
    without Penstock's own columns. ``dead``: the dead letters. A record in neither has no known answer. ``versions``:
    each ``model.version`` that has answered, the commonest first. ``rate``: records per second; None: unknown."""

    versions: Sequence[str]
    rows: pa.Table
    numbers: Sequence[int]
    dead: Mapping[int, Dead] = field(default_factory=dict)
    loaded_s: float | None = None
    rate: float | None = None

    @property
    def columns(self) -> pa.Schema:
        """Names and types of the columns of the model and of ``model.passthrough``."""
        return self.rows.schema


def of_model(settings: Settings, records: Sequence[Record], measure_s: float) -> Answers:
    """Load the configuration's model in one replica, and run it on copies of the records.

    :raises UserError: the model or its columns cannot be used: ``ModelError``, ``ConfigError``.
    :raises Fatal: the model's process cannot go on.
    """
    found = judged(settings, records, measure_s)
    return Answers((settings.model.version,), found.rows, found.numbers, found.dead, found.loaded_s, found.rate)


def of_table(store: ObjectStore, records: Sequence[Record], stream: str) -> Answers | None:
    """Return the table's rows of the records; None if it has no files. Reads only files that may have them.

    :raises UserError: a file cannot be read.
    """
    ids = [record.record_id(stream) for record in records]
    parts = list(_rows(store, records, set(ids)))
    if not parts:
        return _empty(store)
    rows = pa.concat_tables(parts)
    place = {each: at for at, each in enumerate(rows[ID].to_pylist())}
    numbers = [number for number, each in enumerate(ids, 1) if each in place]
    rows = rows.take(pa.array([place[ids[number - 1]] for number in numbers], pa.int64()))
    versions = Counter(rows["model_version"].to_pylist())
    return Answers([each for each, _ in versions.most_common()], rows.drop_columns(IDENTITY.names), numbers)


def _empty(store: ObjectStore) -> Answers | None:
    """The columns of one of the files, without rows."""
    if (first := next(iter(_files(store, "dt=")), None)) is None:
        return None
    return Answers((), _table(store, first).slice(0, 0).drop_columns(IDENTITY.names), [])


def _rows(store: ObjectStore, records: Sequence[Record], ids: set[str]) -> Iterator[pa.Table]:
    wanted: dict[str, list[Record]] = {}
    for record in records:
        day = datetime.fromtimestamp(record.arrived_ms / 1000, UTC).date().isoformat()
        wanted.setdefault(f"dt={day}/", []).append(record)
    for day, of_day in wanted.items():
        for key in sorted(covering(_files(store, day), of_day)):
            table = _table(store, key)
            found = table.filter(pc.is_in(table[ID], value_set=pa.array(ids, pa.string())))
            if found.num_rows:
                yield found


def _files(store: ObjectStore, prefix: str) -> list[str]:
    return [key for key in store.list(prefix) if TABLE_FILE.fullmatch(key) or REDRIVEN_FILE.fullmatch(key)]


def covering(keys: Iterable[str], records: Sequence[Record]) -> set[str]:
    """Yield the files that may have one of the records: by the position where a file begins, and all files of redriven
    rows. Pure."""
    lists: dict[tuple[str, str], list[str]] = {}
    found: set[str] = set()
    shards = {record.shard_id for record in records}
    for key in keys:
        if match := TABLE_FILE.fullmatch(key):
            lists.setdefault((match["list"], match["shard"]), []).append(key)
        elif (match := REDRIVEN_FILE.fullmatch(key)) and match["shard"] in shards:
            found.add(key)
    for (_, shard_id), chain in lists.items():
        chain.sort(key=first_of)
        starts = [first_of(key) for key in chain]
        for record in records:
            if record.shard_id == shard_id and (place := bisect_right(starts, record.position)):
                found.add(chain[place - 1])
    return found


def _table(store: ObjectStore, key: str) -> pa.Table:
    return opened(store, key).read().replace_schema_metadata(None)
