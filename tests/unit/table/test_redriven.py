"""Redriven rows: written once, seen once by readers, and checked by the auditor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import Fatal
from pipeline.record import Dead, Enriched, Position, Record
from pipeline.sinks.parquet import Files
from pipeline.stores.memory import MemoryStore
from pipeline.table import dead_positions
from pipeline.table.audit import audit
from pipeline.table.compare import held, written
from pipeline.table.footer import REDRIVEN_POSITIONS, footer_of
from pipeline.table.names import Names
from pipeline.table.redrive_notes import RedriveNotes, failure_of
from pipeline.table.redriven import RedrivenRows, positions_in, redriven_keys
from pipeline.table.schema import encode
from pipeline.table.seal import BLANK, SHA256, sealed
from tests.support.settled_records import MORNING_MS, SCHEMA, SHARD, record, rows
from tests.unit.table.test_audit import Table

PLACE = "dt=2026-11-18/1700000000-shardId-000000000000"


def redriven(*sequences: int) -> list[Record]:
    return [replace(record(each), outcome=Enriched(rows([each]), 0)) for each in sequences]


def list_of(table: Table) -> RedrivenRows:
    return RedrivenRows(table.store, PLACE, SCHEMA)


def test_the_place_is_that_of_the_tests() -> None:
    assert MORNING_MS == 1_794_960_000_000
    assert all(key.startswith(PLACE) for key in Table().store.objects if SHARD.shard_id in key)


def test_a_redriven_row_is_seen_once_and_the_audit_counts_it(tmp_path: Path) -> None:
    table = Table()
    list_of(table).add(redriven(20, 22), "r1")
    report = table.audit()
    assert report.problems == []
    assert (report.rows, report.dead_letters, report.redriven) == (17, 4, 2)
    for key, (body, _) in table.store.objects.items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    frame = pd.read_parquet(tmp_path)
    assert len(frame) == 17 and frame["record_id"].is_unique
    assert {"events/shardId-000000000000/20/0", "events/shardId-000000000000/22/0"} <= set(frame["record_id"])


def test_the_same_again_writes_nothing_and_others_only_what_is_new() -> None:
    table = Table()
    list_of(table).add(redriven(20, 22), "r1")
    list_of(table).add(redriven(20, 22), "r2")
    assert len(redriven_keys(table.store, PLACE)) == 1
    list_of(table).add(redriven(20, 21, 22), "r3")
    assert list_of(table).held() == {Position(20, 0), Position(21, 0), Position(22, 0)}
    assert [positions_in(table.store, key) for key in redriven_keys(table.store, PLACE)] == [
        [Position(20, 0), Position(22, 0)],
        [Position(21, 0)],
    ]
    assert table.audit().problems == []


def test_a_foreign_object_in_the_way_is_named() -> None:
    table = Table()
    table.store.objects[f"{PLACE}-redriven-000000.parquet"] = (b"", {})
    with pytest.raises(Fatal, match=r"redriven-000000\.parquet has the name of a file of redriven rows but is not one"):
        list_of(table).add(redriven(20), "r1")


def test_a_redriven_record_is_on_the_stream_once() -> None:
    table = Table()
    list_of(table).add(redriven(20, 22), "r1")
    files = written(table.store, SHARD.stream_created_s)[SHARD.shard_id]
    found = [arrival.position.sequence for arrival in held(table.store, files.keys, table.dead)]
    assert found == list(range(10, 26))


def test_a_session_that_begins_before_redriven_rows_passes_over_them() -> None:
    table = Table()
    list_of(table).add(redriven(20, 22), "r1")
    files = Files(table.store, Names(SHARD), SCHEMA, None)
    assert files.held(record(11), None) == Position(25, 0)
    assert files.held(record(21), Position(20, 0)) == Position(25, 0)


Spoil = Callable[[Table], None]


def of_a_row(table: Table) -> None:
    list_of(table).add(redriven(11), "r1")


def twice(table: Table) -> None:
    list_of(table).add(redriven(20), "r1")
    other = MemoryStore()
    RedrivenRows(other, PLACE, SCHEMA).add(redriven(21), "r2")
    RedrivenRows(other, PLACE, SCHEMA).add(redriven(20), "r2")
    table.store.objects[f"{PLACE}-redriven-000001.parquet"] = other.objects[f"{PLACE}-redriven-000001.parquet"]


def of_another_day(table: Table) -> None:
    other = PLACE.replace("18", "19")
    RedrivenRows(table.store, other, SCHEMA).add(redriven(20), "r1")


def changed(table: Table) -> None:
    list_of(table).add(redriven(20), "r1")
    key = redriven_keys(table.store, PLACE)[0]
    body, metadata = table.store.objects[key]
    table.store.objects[key] = (body.replace(b"key-20", b"key-21"), metadata)


def renamed(table: Table) -> None:
    list_of(table).add(redriven(20), "r1")
    key = redriven_keys(table.store, PLACE)[0]
    table.store.objects[key.replace("redriven-000000", "redriven-000003")] = table.store.objects.pop(key)


def says_another(table: Table) -> None:
    list_of(table).add(redriven(20), "r1")
    key = redriven_keys(table.store, PLACE)[0]
    body, metadata = table.store.objects[key]
    footer = {**footer_of(body), REDRIVEN_POSITIONS: dead_positions.encoded([Position(22, 0)]), SHA256: BLANK}
    del footer["ARROW:schema"]
    table.store.objects[key] = (sealed(encode(SCHEMA.table(redriven(20)), footer)), metadata)


def without_metadata(table: Table) -> None:
    list_of(table).add(redriven(20), "r1")
    key = redriven_keys(table.store, PLACE)[0]
    table.store.objects[key] = (table.store.objects[key][0], {})


def no_file(table: Table) -> None:
    table.store.objects[f"{PLACE}-redriven-000000.parquet"] = (b"", {})


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (of_a_row, {"duplicate"}),
        (twice, {"duplicate"}),
        (of_another_day, {"duplicate", "values"}),
        (changed, {"changed"}),
        (renamed, {"gap", "range"}),
        (says_another, {"metadata"}),
        (without_metadata, {"metadata"}),
        (no_file, {"unreadable"}),
    ],
)
def test_the_auditor_names_what_is_wrong_with_redriven_rows(spoil: Spoil, kinds: set[str]) -> None:
    table = Table()
    spoil(table)
    assert {problem.kind for problem in table.audit().problems} == kinds


def test_a_stranger_among_the_redriven_is_a_stray() -> None:
    table = Table()
    table.store.objects["dt=2026-99-18/1700000000-shardId-000000000000-redriven-000000.parquet"] = (b"", {})
    [problem] = audit(table.store).problems
    assert problem.kind == "stray"


def test_failures_are_counted_and_each_is_noted_once() -> None:
    store = MemoryStore()
    first = replace(record(20), outcome=Dead(b"", "bad \ud800", "", 3, "timeout"))
    dead = first.outcome
    assert isinstance(dead, Dead)
    now = datetime(2026, 11, 27, tzinfo=UTC)
    notes = RedriveNotes(store, PLACE)
    lost = [True]

    def after(operation: str, key: str) -> None:
        if operation == "put" and lost.pop():
            raise ConnectionError

    store.after = after
    with pytest.raises(ConnectionError):
        notes.add([failure_of(first, dead, "m1", now, "r1")])
    store.after = lambda operation, key: None
    notes.add([failure_of(first, dead, "m1", now, "r1")])
    assert len(store.objects) == 1
    RedriveNotes(store, PLACE).add([failure_of(first, dead, "m2", now, "r2")])
    found = RedriveNotes(store, PLACE).failures()
    assert [each.model_version for each in found[Position(20, 0)]] == ["m1", "m2"]
    assert (found[Position(20, 0)][0].kind, found[Position(20, 0)][0].reason) == ("timeout", "bad ?")
