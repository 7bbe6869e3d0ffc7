"""A file that Parquet cannot hold is split, or written without the rows that are to blame."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.record import Dead, Enriched, Position, Record
from pipeline.sinks.chain import File
from pipeline.sinks.writable import cut, without_unwritable
from tests.support.settled_records import SCHEMA, record


def file(*records: Record) -> File:
    return File("dt=2026-01-01/key.parquet", records, None, records[-1].position)


def failing(*bad: int) -> tuple[list[int], object]:
    """A writer that cannot write these sequence numbers; counts the records of each try."""
    tries: list[int] = []

    def write(records: Sequence[Record]) -> None:
        tries.append(len(records))
        rows = [each for each in records if isinstance(each.outcome, Enriched)]
        if any(int(each.sequence) in bad for each in rows):
            raise pa.ArrowInvalid("Integer overflow when casting timestamp value")

    return tries, write


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_exactly_the_rows_to_blame_are_dead_letters_of_the_sink(bad: set[int], dead: set[int]) -> None:
    given_file = file(*(record(number, dead=number in dead) for number in range(1, 41)))
    _, write = failing(*bad)
    written = without_unwritable(given_file, write, "parquet:x")  # type: ignore[arg-type]
    assert [each.position for each in written.records] == [each.position for each in given_file.records]
    for number, each in enumerate(written.records, 1):
        if number in dead:
            assert isinstance(each.outcome, Dead) and not each.outcome.sink
        elif number in bad:
            assert isinstance(each.outcome, Dead)
            assert (each.outcome.kind, each.outcome.sink) == ("sink", "parquet:x")
            assert "Integer overflow" in each.outcome.reason
        else:
            assert isinstance(each.outcome, Enriched)
    assert all(isinstance(each.outcome, Enriched) for each in given_file.records if int(each.sequence) not in dead)


def test_one_row_to_blame_among_many_is_found_in_few_tries() -> None:
    tries, write = failing(700)
    without_unwritable(file(*(record(number) for number in range(1, 1001))), write, "parquet:x")  # type: ignore[arg-type]
    assert len(tries) < 25


@pytest.mark.parametrize("error", [pa.ArrowMemoryError("malloc of size 64 failed"), MemoryError(), KeyError("ours")])
def test_errors_that_no_row_causes_are_raised(error: Exception) -> None:
    def write(records: Sequence[Record]) -> None:
        if records:
            raise error

    with pytest.raises(type(error)):
        without_unwritable(file(record(1), record(2)), write, "parquet:x")


def test_a_writer_that_cannot_write_even_nothing_blames_no_row() -> None:
    def write(_: Sequence[Record]) -> None:
        raise pa.ArrowInvalid("no such codec")

    with pytest.raises(pa.ArrowInvalid):
        without_unwritable(file(record(1)), write, "parquet:x")


def test_a_file_is_cut_by_the_real_size_of_its_rows() -> None:
    """An average does not show a row that is much larger than the others of its batch."""
    records = [record(number) for number in range(1, 101)]
    most = SCHEMA.table(records[:30]).nbytes
    first = cut(file(*records), SCHEMA.table, most)
    assert first.end == Position(25, 0) and SCHEMA.table(first.records).nbytes <= most
    assert len(cut(file(*records), SCHEMA.table, 1).records) == 1
    assert cut(file(*records), SCHEMA.table).records == tuple(records)
