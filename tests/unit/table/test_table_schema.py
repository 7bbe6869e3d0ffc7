"""The table's columns, and their files."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError
from pipeline.model.arrow_rows import RowMaker
from pipeline.record import Dead, Enriched, Record
from pipeline.table import samples
from pipeline.table.schema import IDENTITY, TableSchema, encode, expect_unchanged, read_schema
from tests.property.column_types import DEEP, FLAT
from tests.support.settled_records import MORNING_MS, ROWS, SCHEMA, record, rows

AT = datetime(2026, 11, 18, 8, tzinfo=UTC)


def test_rows_come_in_order_for_any_batches() -> None:
    one, two = rows([10, 11, 12]), rows([20, 21])
    records = [record(sequence) for sequence in range(1, 7)]
    where = [(one, 2), (one, 0), (two, 1), None, (one, 1), (two, 0)]
    for each, place in zip(records, where, strict=True):
        each.outcome = Enriched(*place) if place else Dead(b"", "no", "", 1)
    table = SCHEMA.table(records, AT)
    assert table.column_names == [*IDENTITY.names, *ROWS.names]
    assert table["text"].to_pylist() == ["12", "10", "21", "11", "20"]
    assert table["sequence_number"].to_pylist() == ["1", "2", "3", "5", "6"]
    first = table.slice(0, 1).to_pylist()[0]
    assert first["record_id"] == "events/shardId-000000000000/1/0"
    assert first["arrived_at"] == datetime.fromtimestamp(MORNING_MS / 1000, UTC)
    assert first["processed_at"] == AT
    assert (first["model_version"], first["partition_key"], first["sub_sequence_number"]) == ("model@1", "key-1", 0)


def test_a_table_of_the_dead_has_columns_and_no_rows() -> None:
    table = SCHEMA.table([record(1, dead=True)], AT)
    assert table.num_rows == 0 and table.schema == SCHEMA.schema
    assert len(pd.read_parquet(io.BytesIO(encode(table, {})))) == 0


def test_a_model_without_columns_still_has_rows() -> None:
    bare = Record("shard", b"", "key", "1", 0, MORNING_MS)
    bare.outcome = Enriched(None, 0)
    assert TableSchema(pa.schema([]), "events", "1").table([bare], AT).num_rows == 1


def test_columns_may_be_null_in_a_file_even_if_the_model_forbids_it() -> None:
    strict = TableSchema(pa.schema([pa.field("label", pa.string(), nullable=False)]), "events", "1")
    assert all(field.nullable for field in strict.schema)
    each = record(1)
    batch = pa.RecordBatch.from_arrays([pa.array(["x"])], schema=pa.schema([pa.field("label", pa.string(), False)]))
    each.outcome = Enriched(batch, 0)
    assert strict.table([each], AT)["label"].to_pylist() == ["x"]


@pytest.mark.parametrize(
    ("names", "word"),
    [
        *((["record_id"], "Penstock's own"), (["Shard_ID"], "Penstock's own"), (["_x"], "starts with _")),
        *((["dt"], "folders"), (["DT"], "folders"), (["a", "a"], "twice"), (["Label", "label"], "twice")),
        *(([""], "no name"), (["a b"], "Spark"), (["a=b"], "Spark"), (["a\n"], "Spark"), (["a\0"], "Spark")),
    ],
)
def test_columns_that_clash_are_mistakes_of_the_configuration(names: list[str], word: str) -> None:
    rows = pa.schema([(name, pa.string()) for name in names])
    with pytest.raises(ConfigError, match=rf"^model.output_schema: .*{word}.*(Rename it in output_schema|Name it)\.$"):
        TableSchema(rows, "events", "1")
    with pytest.raises(ConfigError, match=rf"^model.passthrough: .*{word}"):
        TableSchema(rows, "events", "1", passthrough=names)


def test_of_two_columns_with_one_name_the_models_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^model.output_schema: column 'text' is there twice"):
        TableSchema(pa.schema([("Text", pa.string()), ("text", pa.string())]), "events", "1", passthrough=["Text"])


def test_a_type_that_parquet_lacks_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="Parquet"):
        TableSchema(pa.schema([("x", pa.sparse_union([pa.field("a", pa.int8())]))]), "events", "1")


def test_files_are_small_and_carry_their_metadata() -> None:
    records = [record(10**55 + 7 * number) for number in range(2000)]
    body = encode(SCHEMA.table(records, AT), {"penstock-end": "1/0", "penstock.dead_letters": "ü\n"})
    file = pq.ParquetFile(io.BytesIO(body))
    assert file.metadata.metadata[b"penstock-end"] == b"1/0"
    assert file.metadata.metadata[b"penstock.dead_letters"].decode() == "ü\n"
    group = file.metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert all(column.compression == "ZSTD" for column in columns.values())
    for name in ("record_id", "sequence_number"):
        assert "PLAIN" in columns[name].encodings and columns[name].statistics.has_min_max
        assert columns[name].total_compressed_size < 15 * len(records)


def test_parquet_returns_the_announced_values() -> None:
    assert read_schema(encode(SCHEMA.table([record(1)], AT), {"penstock-end": "1/0"})) == SCHEMA.written
    seconds = TableSchema(pa.schema([("at", pa.timestamp("s")), ("tags", pa.list_(pa.string()))]), "events", "1")
    assert read_schema(encode(seconds.table([], AT), {})) == seconds.written != seconds.schema


@pytest.mark.parametrize(
    ("fields", "word"),
    [(["a", "A"], "twice"), ([""], "no name"), (["a b"], "Spark")],
)
def test_fields_of_structs_have_names_that_readers_can_tell(fields: list[str], word: str) -> None:
    kind = pa.list_(pa.struct([(name, pa.string()) for name in fields]))
    with pytest.raises(ConfigError, match=word):
        TableSchema(pa.schema([("x", kind)]), "events", "1")


def test_v_is_a_name_like_any_other() -> None:
    assert not TableSchema(pa.schema([("v", pa.string())]), "events", "1").warnings


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        *(
            (pa.float16(), "Spark"),
            (pa.timestamp("ns"), "Spark"),
            (pa.time32("s"), "Spark"),
            (pa.time64("us"), "Athena"),
        ),
        *((pa.decimal256(60, 2), "DuckDB"), (pa.duration("s"), "pandas"), (pa.uint64(), "Athena")),
        (pa.list_(pa.struct([("a", pa.float16())])), "Spark"),
    ],
)
def test_a_type_that_some_reader_cannot_read_is_reported(kind: pa.DataType, reader: str) -> None:
    [line] = TableSchema(pa.schema([("x", kind)]), "events", "1").warnings
    assert reader in line and "'x" in line


@pytest.mark.parametrize("kind", [pa.time64("ns"), pa.decimal128(9, -2)])
def test_a_type_that_cannot_be_read_back_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(ConfigError):
        TableSchema(pa.schema([("x", kind)]), "events", "1")


EVERY = [kind for kind in [*FLAT, *DEEP] if "time64[ns]" not in str(kind) and "-2)" not in str(kind)]


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_values_of_every_type_are_tried_at_start(kind: pa.DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of a type, including nulls; a column that returns other values is refused, for any type."""
    rows = RowMaker(pa.schema([("x", kind)]), {}).schema
    sample = samples.table(rows)
    sample.validate(full=True)
    assert sample.column(0).null_count and len(sample) == 3
    TableSchema(rows, "events", "1")
    read = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda file: _swapped(read(file)))
    with pytest.raises(ConfigError, match=r"changes the values of column 'x' of type"):
        TableSchema(rows, "events", "1")


def test_values_of_our_own_columns_are_unchanged() -> None:
    """They are not tried at start: they are always the same."""
    expect_unchanged(IDENTITY)


def _swapped(table: pa.Table) -> pa.Table:
    return table.take([1, 0, 2]) if table.column_names == ["x"] else table
