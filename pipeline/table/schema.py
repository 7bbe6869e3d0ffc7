"""The table's columns: who a record is, what it carried, what the model said. One schema per table, frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.record import Enriched, Record
from pipeline.table import readers, samples

TIME = pa.timestamp("ms", "UTC")

IDENTITY = pa.schema(
    [
        ("record_id", pa.string()),
        ("shard_id", pa.string()),
        ("sequence_number", pa.string()),
        ("sub_sequence_number", pa.int64()),
        ("partition_key", pa.string()),
        ("arrived_at", TIME),
        ("processed_at", TIME),
        ("model_version", pa.string()),
    ]
)
"""Penstock's own columns; they come first."""

RISING = ("record_id", "sequence_number")
"""Every value is another one: never dictionary-coded. Not delta-coded either: zstd makes as little of plain text, and
fastparquet, also below pandas, cannot read a file with a delta-coded column."""


class TableSchema:
    """Makes tables of settled records. ``rows``: the schema of :class:`pipeline.record.Enriched`'s tables, whose
    columns ``passthrough`` come from payloads.

    ``schema`` is the tables', ``written`` the same as Parquet gives it back: it has its own names for values of lists.

    ``warnings``: a line for each column that some common reader cannot read.

    :raises ConfigError: a column's name or type is one that readers cannot take, or Parquet does not
        give back as it was.
    """

    def __init__(self, rows: pa.Schema, stream: str, model_version: str, passthrough: Collection[str] = ()) -> None:
        readers.check(rows, passthrough)
        self.warnings = readers.warnings(rows)
        self.stream = stream
        self.model_version = model_version
        self._rows = pa.schema([field.with_nullable(True) for field in rows])
        self.schema = pa.schema([*IDENTITY, *self._rows])
        self.written = _tried(self.schema)

    def table(self, records: Sequence[Record], processed_at: datetime | None = None) -> pa.Table:
        """The enriched ones of a run's records, in their order; the dead have no row."""
        good = [record for record in records if isinstance(record.outcome, Enriched)]
        identity = self._identity(good, processed_at or datetime.now(UTC))
        rows = self._payload(good)
        columns = [*identity, *(rows.column(name) for name in self._rows.names)]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _identity(self, records: Sequence[Record], processed_at: datetime) -> list[pa.Array]:
        count = len(records)
        shard_ids = pa.array([record.shard_id for record in records], pa.string())
        sequences = pa.array([record.sequence for record in records], pa.string())
        subs = pa.array([record.sub for record in records], pa.int64())
        return [
            pc.binary_join_element_wise(self.stream, shard_ids, sequences, subs.cast(pa.string()), "/"),
            shard_ids,
            sequences,
            subs,
            _texts([record.partition_key for record in records]),
            pa.array([record.arrived_ms for record in records], pa.int64()).cast(TIME),
            pa.repeat(pa.scalar(processed_at, TIME), count),
            pa.repeat(pa.scalar(self.model_version, pa.string()), count),
        ]

    def _payload(self, records: Sequence[Record]) -> pa.Table:
        """Neighbours that came back in one batch are taken out of it together."""
        if not len(self._rows):
            return self._rows.empty_table()
        outcomes = [record.outcome for record in records if isinstance(record.outcome, Enriched)]
        rows = pa.array([outcome.row for outcome in outcomes], pa.int64())
        parts, first = [], 0
        for _, group in groupby([id(outcome.table) for outcome in outcomes]):
            count = sum(1 for _ in group)
            parts.append(outcomes[first].table.take(rows.slice(first, count)))
            first += count
        return pa.Table.from_batches([part.cast(self._rows) for part in parts], schema=self._rows)


def _tried(schema: pa.Schema) -> pa.Schema:
    """As Parquet gives it back, after values of every column have been written and read: else ``ConfigError``."""
    for field in schema:
        try:
            given = samples.table(pa.schema([field]))
            back = pq.read_table(pa.BufferReader(encode(given, {}))).column(0)
            is_whole = (back if back.type == field.type else back.cast(field.type)).equals(given.column(0))
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            trouble = f"Parquet cannot hold column {field.name!r} of type {field.type}: {' '.join(str(error).split())}"
            raise ConfigError("model.output_schema", trouble, "Change the column's type.") from None
        if not is_whole:
            trouble = f"Parquet does not give back what column {field.name!r} of type {field.type} holds"
            raise ConfigError("model.output_schema", trouble, "Change the column's type.")
    return read_schema(encode(schema.empty_table(), {}))


def _texts(values: Sequence[str | None]) -> pa.Array:
    """As they are; a lone surrogate, which is no Unicode, as ``?``."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())


def encode(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """The table as one Parquet file, with ``metadata`` in its footer. Once: Arrow's schema, of which Parquet keeps a
    copy, has none."""
    sink = pa.BufferOutputStream()
    plain = [name for name in table.column_names if name not in RISING]
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression="zstd",
        use_dictionary=plain,
        write_statistics=True,
    ) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata(dict(metadata))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow ships no types


def read_schema(file: bytes) -> pa.Schema:
    """A written file's columns, without its metadata."""
    return pq.read_schema(pa.BufferReader(file)).remove_metadata()
