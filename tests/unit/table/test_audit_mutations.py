"""Every field of every footer, every file and every object of dead letters is changed: the auditor reports
each change."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.record import Position, Record, Shard
from pipeline.table.audit import audit, repair
from pipeline.table.footer import (
    DEAD,
    DEAD_POSITIONS,
    END,
    KEY,
    LETTERS_SHA256,
    NO,
    ON_BOTH,
    PREVIOUS_END,
    ROWS,
    WHOLE,
    WRITER,
    YES,
)
from pipeline.table.names import letters_key
from pipeline.table.seal import SHA256
from pipeline.table.staged_letters import Ledger, sha256_of
from tests.support.settled_records import SHARD, record, run, runs
from tests.unit.table.test_audit import Table, column, rewritten

HIDES = "9" * 56 + "/0"
CUT = Shard("events", SHARD.stream_created_s, "shardId-000000000002")


def kinds(table: Table) -> set[str]:
    return {problem.kind for problem in table.audit().problems}


LIES = {
    END: [HIDES, "1/0", "23/0", "24/0"],
    WHOLE: ["", "2", "YES"],
    PREVIOUS_END: ["", HIDES, "5/0"],
    ROWS: ["0", "3", "-1"],
    DEAD: ["0", "2"],
    LETTERS_SHA256: ["", "0" * 64],
    WRITER: [""],
    KEY: ["", "dt=2026-11-18/another.parquet"],
    DEAD_POSITIONS: ["", "1", "18:0-1", "18;0", "18:5-1", "18:0-9999999999", "zz"],
}


@pytest.mark.parametrize(("name", "lie"), [(name, lie) for name, lies in LIES.items() for lie in lies])
@pytest.mark.parametrize("objects", [True, False])
def test_a_false_footer_with_a_new_digest_is_reported(name: str, lie: str, *, objects: bool) -> None:
    table = Table()
    rewritten(table, 2, footer=lambda said: {**said, name: lie}, objects=objects)
    assert kinds(table)


def test_every_field_of_a_footer_has_a_false_value_above() -> None:
    from pipeline.table.footer import footer_of

    table = Table()
    body, on_object = table.store.objects[table.keys()[2]]
    assert set(on_object) == set(ON_BOTH)
    assert set(footer_of(body)) == {*LIES, SHA256, "ARROW:schema"}


def of_an_aggregate() -> Table:
    """A table with a third list, of four files: the second ends inside an aggregate, the third has the rest."""
    table = Table()
    session = runs(10, 12, shard=CUT), run(*(user(sub) for sub in range(2))), run(*(user(sub) for sub in range(2, 4)))
    table.write(CUT, *session)
    table.write(CUT, run(record(13, shard=CUT)), end=Position(12, 0).end_of_record)
    return table


def user(sub: int) -> Record:
    return record(12, sub=sub, whole=sub == 3, shard=CUT)


def cut_keys(table: Table) -> list[str]:
    return sorted(key for key in table.store.objects if CUT.shard_id in key)


def test_a_lost_rest_of_an_aggregate_is_reported_without_the_stream() -> None:
    """The next session began at KCL's checkpoint, which is after the aggregate with all of its user records."""
    table = of_an_aggregate()
    assert kinds(table) == set()
    lost = table.store.objects.pop(cut_keys(table)[2])
    [problem] = table.audit().problems
    assert problem.kind == "gap" and "at 12/1, inside an aggregate" in problem.detail
    table.store.objects[cut_keys(table)[1]] = lost
    assert kinds(table)


@pytest.mark.parametrize(("place", "lie"), [(0, NO), (1, YES), (2, NO)])
def test_a_file_with_a_wrong_end_of_an_aggregate_is_reported(place: int, lie: str) -> None:
    table = of_an_aggregate()
    rewritten(table, key=cut_keys(table)[place], footer=lambda said: {**said, WHOLE: lie})
    assert kinds(table) == {"gap"}


def test_a_wrong_end_of_the_last_file_is_harmless_until_another_follows() -> None:
    table = of_an_aggregate()
    rewritten(table, key=cut_keys(table)[3], footer=lambda said: {**said, WHOLE: NO})
    assert kinds(table) == set()
    table.write(CUT, runs(14, 16, shard=CUT), end=Position(13, 0))
    assert kinds(table) == {"gap"} and table.audit().rows == 15 + 2 + 4 + 1 + 2


def test_another_writer_in_the_footer_is_harmless_once_the_dead_letters_are_written() -> None:
    table = Table()
    rewritten(table, 2, footer=lambda said: {**said, WRITER: "another"})
    assert kinds(table) == set()
    assert repair(table.store, Ledger(table.dead, table.staged)) == 0


@pytest.mark.parametrize("name", ON_BOTH)
def test_object_metadata_that_differs_from_the_footer_is_reported(name: str) -> None:
    table = Table()
    table.store.objects[table.keys()[2]][1][name] = "7/0"
    assert "metadata" in kinds(table)
    del table.store.objects[table.keys()[2]][1][name]
    assert "metadata" in kinds(table)


VALUES: dict[str, Callable[[Any], Any]] = {
    "record_id": lambda each: each.replace("events", "others"),
    "shard_id": lambda each: f"{each}1",
    "sequence_number": lambda each: str(int(each) + 1),
    "sub_sequence_number": lambda each: each + 1,
    "arrived_at": lambda each: each + timedelta(days=1),
    "processed_at": lambda each: each + timedelta(seconds=1),
    "model_version": lambda each: None,
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("row", [0, 5, 9])
def test_a_changed_value_in_our_own_columns_is_reported(name: str, row: int) -> None:
    table = Table()
    rewritten(table, 0, column(name, VALUES[name], row=row))
    assert kinds(table)


def test_missing_and_duplicate_rows_are_reported() -> None:
    for change in (
        lambda rows: rows.slice(1),
        lambda rows: rows.slice(0, 9),
        lambda rows: pa.concat_tables([rows] * 2),
    ):
        table = Table()
        rewritten(table, 0, change)
        assert kinds(table)


def test_a_change_of_any_byte_of_a_file_is_reported() -> None:
    dice = random.Random(5)
    for _ in range(100):
        table = Table()
        key = dice.choice(table.keys())
        body, on_object = table.store.objects[key]
        at = dice.randrange(len(body))
        changed = bytearray(body)
        changed[at] ^= 1 << dice.randrange(8)
        table.store.objects[key] = (bytes(changed), on_object)
        assert kinds(table) & {"changed", "unreadable"}, at


def test_random_bytes_and_pieces_of_files_are_reported_and_never_raise() -> None:
    dice = random.Random(6)
    for _ in range(200):
        table = Table()
        key = dice.choice(table.keys())
        body, on_object = table.store.objects[key]
        cut = dice.randrange(len(body))
        parts = [dice.randbytes(dice.randrange(200)), body[:cut], body[cut:], b"PAR1"]
        dice.shuffle(parts)
        made = b"".join(parts[: dice.randrange(5)])
        table.store.objects[key] = (made, on_object)
        assert kinds(table) or made == body


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026-11-18", "2026-11-19"),
        ("2026-11-18", "2026-02-31"),
        ("shardId-000000000000", "shardId-000000000007"),
        ("1700000000", "1700000001"),
        (f"{10:056}", f"{9:056}"),
        ("-0000000000.parquet", "-0000000001.parquet"),
    ],
)
def test_a_file_under_another_name_is_reported(old: str, new: str) -> None:
    table = Table()
    key = table.keys()[0]
    table.store.objects[key.replace(old, new)] = table.store.objects.pop(key)
    assert kinds(table)


def test_exchanged_files_are_reported() -> None:
    table = Table()
    one, two, _ = table.keys()
    objects = table.store.objects
    objects[one], objects[two] = objects[two], objects[one]
    assert kinds(table)


def letters_of(table: Table) -> str:
    return letters_key(table.keys()[1])


def change_letter(table: Table, name: str, value: object) -> None:
    """Change the dead letters of a file, and their hash in the file, like a writer with a bug."""
    lines = [orjson.loads(line) for line in table.dead.objects[letters_of(table)][0].splitlines()]
    lines[1][name] = value
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    table.dead.objects[letters_of(table)] = (body, {})
    rewritten(table, 1, footer=lambda said: {**said, LETTERS_SHA256: sha256_of(body)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("record_id", "events/shardId-000000000000/20/0"),
        ("shard_id", "shardId-000000000001"),
        ("sequence_number", "22"),
        ("sub_sequence_number", 1),
        ("arrived_at", "2026-11-19T00:00:00.000+00:00"),
        ("payload_base64", None),
    ],
)
def test_a_letter_in_the_wrong_place_is_reported_even_if_the_hash_agrees(name: str, value: object) -> None:
    table = Table()
    change_letter(table, name, value)
    assert kinds(table) == {"dead-letters"}


def test_any_other_object_of_dead_letters_is_reported() -> None:
    for damage in (b"", b"x", b"{}\n"):
        table = Table()
        table.dead.objects[letters_of(table)] = (damage, {})
        assert "dead-letters" in kinds(table)
    table = Table()
    lines = table.dead.objects[letters_of(table)][0]
    for body in (lines[: lines.index(b"\n") + 1], lines * 2, lines.replace(b"refused", b"refuted")):
        table.dead.objects[letters_of(table)] = (body, {})
        assert "dead-letters" in kinds(table)


@pytest.mark.parametrize("name", ["_SUCCESS", ".DS_Store", "notes.txt", "dt=2026-11-18/x.jsonl"])
def test_foreign_objects_among_the_dead_letters_are_reported(name: str) -> None:
    table = Table()
    table.dead.objects[name] = (b"", {})
    assert kinds(table) == {"dead-letters"}


@pytest.mark.parametrize("sequence", [15, 99])
def test_dead_letters_of_a_missing_file_are_reported(sequence: int) -> None:
    table = Table()
    extra = letters_of(table).replace(f"{20:056}", f"{sequence:056}")
    table.dead.objects[extra] = table.dead.objects[letters_of(table)]
    assert kinds(table) == {"dead-letters"}


def test_unwritten_letters_after_a_crash_are_reported_and_repaired() -> None:
    table = Table()
    table.dead.objects.clear()
    [problem, _] = table.audit().problems
    assert problem.kind == "dead-letters" and "--repair" in problem.detail
    assert repair(table.store, Ledger(table.dead, table.staged)) == 2
    assert table.audit().problems == []


def test_a_small_file_that_claims_millions_of_rows_costs_no_memory() -> None:
    rows = 20_000_000
    places = pa.repeat(pa.scalar(0, pa.int32()), rows)
    flat = pa.table({"record_id": pa.DictionaryArray.from_arrays(places, ["a"])})
    sink = pa.BufferOutputStream()
    pq.write_table(flat, sink, compression="zstd")
    body = sink.getvalue().to_pybytes()
    del flat, places
    table = Table()
    table.store.objects[table.keys()[0]] = (body, {})
    before = pa.total_allocated_bytes()
    assert "unreadable" in kinds(table)
    assert len(body) < 2_000_000 and pa.default_memory_pool().max_memory() - before < 400_000_000


def test_a_list_whose_file_cannot_be_read_is_not_called_a_gap_as_well() -> None:
    table = Table()
    table.store.objects[table.keys()[1]] = (b"PAR1", {})
    problems = table.audit().problems
    assert [(problem.kind, problem.key) for problem in problems if problem.kind != "dead-letters"] == [
        ("unreadable", table.keys()[1])
    ]


def test_two_streams_in_one_table_are_reported() -> None:
    table = Table()
    rewritten(table, 0, column("record_id", lambda each: each.replace("events", "others")))
    assert "identity" in kinds(table)
    assert audit(table.store).problems and SHARD.stream == "events"
