"""A file with a valid digest and impossible claims is reported as a problem and does not use much memory."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.table.column_names import OWN
from pipeline.table.schema import IDENTITY
from tests.unit.table.test_audit import Table, column, rewritten


def bad(table: Table) -> set[tuple[str, str]]:
    return {(problem.kind, problem.key) for problem in table.audit().problems if problem.kind == "unreadable"}


@pytest.mark.parametrize("name", ["arrived_at", "processed_at"])
@pytest.mark.parametrize("value", [10**15, -(10**15), 2**63 - 1, -(2**63), None])
def test_a_time_that_there_is_not_is_a_problem_of_its_file(name: str, value: int | None) -> None:
    def change(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index(name)
        values = pa.array([value] * len(rows), pa.int64()).cast(rows.schema.field(name).type)
        return rows.set_column(place, rows.schema.field(name), values)

    table = Table()
    rewritten(table, 0, change)
    assert bad(table) == {("unreadable", table.keys()[0])}


@pytest.mark.parametrize("name", ["partition_key", "record_id", "shard_id", "model_version", "sequence_number"])
@pytest.mark.parametrize("size", [50_000, 5_000_000])
def test_a_text_that_is_too_long_is_not_read(name: str, size: int) -> None:
    table = Table()
    rewritten(table, 0, column(name, lambda each: "x" * size))
    body = table.store.objects[table.keys()[0]][0]
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    assert bad(table) == {("unreadable", table.keys()[0])}
    assert pool.max_memory() and pa.total_allocated_bytes() - before <= 1_000_000 and len(body) < 60_000


def test_any_error_while_reading_a_file_is_a_problem_of_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    good = len(table.audit().problems)

    def breaks(*_: object) -> None:
        raise OverflowError("date value out of range")

    monkeypatch.setattr("pipeline.table.file_audit.value_faults", breaks)
    assert good == 0 and len(bad(table)) == len([key for key in table.store.objects if key.endswith(".parquet")]) - 1


def test_the_names_of_our_columns_are_defined_in_one_place() -> None:
    assert tuple(IDENTITY.names) == OWN
