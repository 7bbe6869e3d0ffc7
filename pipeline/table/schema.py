"""The table's columns: the record's identity, the carried payload fields, the model's output. One frozen schema a
table.
"""

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
"""Penstock's own columns. They come first."""

RISING = ("record_id", "sequence_number")
"""Columns whose values are all different: never dictionary-encoded. Not delta-encoded either: zstd compresses plain
text as well, and fastparquet (which pandas can use) cannot read a file with a delta-encoded column.
"""


COMPRESSION = "zstd"
"""How the pages of a table's files are compressed."""


class TableSchema:
    """Makes Arrow tables of settled records.

    ``rows``: the schema of the batches in :class:`pipeline.record.Enriched`; its columns ``passthrough`` come from the
    payload. ``schema`` is the schema of the tables made here. ``written`` is the same schema as Parquet returns it,
    which names the values of lists differently. ``warnings`` has a line for each column that at least one common reader
    cannot read.

    :raises ConfigError: readers cannot take a column's name or type, or Parquet does not return its values unchanged.
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
        """Make a table of the enriched records, in their order. Dead records have no row.

        ``processed_at`` is the same for all rows; the current time by default.
        """
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
            pa.array([record.arrived_ms for record in records], pa.int64()).view(TIME),
            pa.repeat(pa.scalar(processed_at, TIME), count),
            pa.repeat(pa.scalar(self.model_version, pa.string()), count),
        ]

    def _payload(self, records: Sequence[Record]) -> pa.Table:
        """Take the rows out of their batches; neighbours from the same batch are taken together."""
        if not len(self._rows):
            return self._rows.empty_table()
        outcomes = [record.outcome for record in records if isinstance(record.outcome, Enriched)]
        rows = pa.array([outcome.row for outcome in outcomes], pa.int64())
        parts, first = [], 0
        for _, group in groupby([id(outcome.table) for outcome in outcomes]):
            count = sum(1 for _ in group)
            parts.append(outcomes[first].table.take(rows.slice(first, count)))
            first += count
        alike = [
            part if part.schema.equals(self._rows, check_metadata=True) else part.cast(self._rows) for part in parts
        ]
        return pa.Table.from_batches(alike, schema=self._rows)


def _tried(schema: pa.Schema) -> pa.Schema:
    """Return the schema as Parquet gives it back. The columns after our own are tried, which are always the same.

    :raises ConfigError: Parquet cannot hold a column, or changes its values.
    """
    expect_unchanged(pa.schema(list(schema)[len(IDENTITY) :]))
    return read_schema(encode(schema.empty_table(), {}))


def expect_unchanged(schema: pa.Schema) -> None:
    """Write and read sample values of every column.

    :raises ConfigError: Parquet cannot hold a column, or changes its values.
    """
    for field in schema:
        try:
            given = samples.table(pa.schema([field]))
            # Not `pq.read_table`: it opens a data set, which costs 1 ms more for each column of each start.
            back = pq.ParquetFile(pa.BufferReader(encode(given, {}))).read().column(0)
            is_whole = (back if back.type == field.type else back.cast(field.type)).equals(given.column(0))
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            trouble = f"Parquet cannot hold column {field.name!r} of type {field.type}: {' '.join(str(error).split())}"
            raise ConfigError("model.output_schema", trouble, "Change the column's type.") from None
        if not is_whole:
            trouble = f"Parquet changes the values of column {field.name!r} of type {field.type}"
            raise ConfigError("model.output_schema", trouble, "Change the column's type.")


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Make a string array. A lone surrogate, which is not valid Unicode, becomes ``?``."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())


def encode(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Encode the table as one Parquet file with ``metadata`` in its footer.

    The metadata is stored once: Parquet also keeps a copy of Arrow's schema, from which it is removed.
    """
    sink = pa.BufferOutputStream()
    plain = [name for name in table.column_names if name not in RISING]
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression=COMPRESSION,
        use_dictionary=plain,
        write_statistics=True,
    ) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata(dict(metadata))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow ships no types


def read_schema(file: bytes) -> pa.Schema:
    """Return a Parquet file's Arrow schema, without its metadata."""
    return pq.read_schema(pa.BufferReader(file)).remove_metadata()
