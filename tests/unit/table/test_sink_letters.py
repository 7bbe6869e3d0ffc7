"""The auditor reads dead letters of single sinks: each is unchanged, has its name, and belongs to a record that has a
row."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import Fatal
from pipeline.record import Record
from pipeline.sinks.refused import AGAIN, RefusedLetters, RefusedRow
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from pipeline.table.sink_letters import with_digest
from tests.support.settled_records import SCHEMA, SHARD, record
from tests.unit.table.test_audit import Table

SINK = "kinesis:enriched"


def refused(table: Table, *records: Record, sink: str = SINK) -> list[str]:
    """Letters of records, and their keys."""
    letters, before = RefusedLetters(table.dead, SCHEMA, sink), set(table.dead.objects)
    for each in records:
        letters.put(SHARD, RefusedRow(replace(each, data=b"payload", outcome=None), "too large"))
    return sorted(set(table.dead.objects) - before)


def said(table: Table) -> list[tuple[str, str]]:
    problems = table.audit().problems
    assert {problem.kind for problem in problems} <= {"dead-letters"}
    return [(problem.key, problem.detail) for problem in problems]


def test_letters_as_they_are_written_are_accepted_and_counted() -> None:
    table = Table()
    refused(table, record(12), record(23), record(12))
    refused(table, record(12), sink="kinesis:other")
    refused(table, record(99))  # the table will have it once its file is written
    report = table.audit()
    assert report.problems == [] and report.letters_of_sinks == 4


LIES: dict[str, list[Any]] = {
    "record_id": ["events/shardId-000000000000/13/0", "", None],
    "stream": ["others", 7],
    "shard_id": ["shardId-000000000001"],
    "sequence_number": ["13", "x", None],
    "sub_sequence_number": [1, "x", None],
    "partition_key": ["another", None, 7],
    "arrived_at": ["2026-11-19T00:00:00.000+00:00", "2026-11-18T00:00:00.001+00:00", "never", 10**15],
    "kind": ["decode", None],
    "sink": ["kinesis:other", None],
    "reason": [None],
    "traceback": [7],
    "model_version": [None],
    "payload_base64": [None, "no base64!"],
}
HARMLESS = {"failed_at", "attempts"}
"""Nothing depends on these fields; the digest shows an accidental change."""


@pytest.mark.parametrize(("name", "lie"), [(name, lie) for name, lies in LIES.items() for lie in lies])
def test_a_false_letter_is_reported_even_with_a_new_digest(name: str, lie: object) -> None:
    table = Table()
    [key] = refused(table, record(12))
    line = orjson.loads(table.dead.objects[key][0])
    assert set(line) == {*LIES, *HARMLESS, "sha256"}
    del line["sha256"]
    table.dead.objects[key] = (with_digest(orjson.dumps({**line, name: lie})), {})
    assert [each for each, _ in said(table)] == [key]


def test_a_change_of_any_byte_of_a_letter_is_reported() -> None:
    """Each byte in one of twelve letters, which the auditor reads together."""
    dice = random.Random(7)
    table = Table()
    keys = refused(table, *map(record, [*range(10, 20), 23, 25]))
    bodies = [table.dead.objects[key][0] for key in keys]
    length = len(bodies[0])
    assert {len(body) for body in bodies} == {length}
    for first in range(0, length, len(keys)):
        changed = keys[: length - first]
        for at, (key, body) in enumerate(zip(keys, bodies, strict=True), first):
            bit = 1 << dice.randrange(8) if at < length else 0
            table.dead.objects[key] = (body[:at] + bytes(byte ^ bit for byte in body[at : at + 1]) + body[at + 1 :], {})
        assert sorted(key for key, _ in said(table)) == changed, first


@pytest.mark.parametrize("body", [b"", b"garbage", b"{}\n", b"[]\n", b"null", b"\xff" * 99, b"[" * 100_000])
def test_garbage_is_reported(body: bytes) -> None:
    table = Table()
    [key] = refused(table, record(12))
    table.dead.objects[key] = (body, {})
    assert [each for each, _ in said(table)] == [key]


def test_an_answer_of_more_than_one_line_is_reported() -> None:
    table = Table()
    [key] = refused(table, record(12))
    body = table.dead.objects[key][0]
    for damage in (body * 2, body + b" ", body.rstrip(), body.replace(b":", b": ", 1)):
        table.dead.objects[key] = (damage, {})
        assert [each for each, _ in said(table)] == [key]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("~kinesis-enriched", "~kinesis-other"),
        (f"{12:056}", f"{13:056}"),
        ("0000000000~", "0000000001~"),
        ("1700000000", "1700000001"),
        ("2026-11-18", "2026-11-19"),
        ("shardId-000000000000", "shardId-000000000001"),
    ],
)
def test_a_letter_under_another_name_is_reported(old: str, new: str) -> None:
    table = Table()
    [key] = refused(table, record(12))
    table.dead.objects[key.replace(old, new)] = table.dead.objects.pop(key)
    if new != "1700000001":  # a list that the table does not have: it may be another table's
        assert [each for each, _ in said(table)] == [key.replace(old, new)]


@pytest.mark.parametrize(("sequence", "sub"), [(15, 1), (21, 0)])
def test_a_letter_of_a_record_without_a_row_is_reported(sequence: int, sub: int) -> None:
    """21 is a dead letter of all sinks."""
    table = Table()
    [key] = refused(table, record(sequence, sub=sub))
    assert said(table) == [(key, "its record has no row")]


def test_a_letter_that_exists_twice_is_reported() -> None:
    table = Table()
    [key] = refused(table, record(12))
    again = key.replace("~", f"-{AGAIN}~")
    table.dead.objects[again] = table.dead.objects[key]
    assert [each for each, _ in said(table)] in ([key], [again])


def test_a_foreign_object_with_a_letters_name_does_not_lose_the_letter() -> None:
    table = Table()
    [key] = refused(table, record(12))
    table.dead.objects[key] = (b"garbage", {})
    [again] = refused(table, record(12))
    assert refused(table, record(12)) == [] and again == key.replace("~", f"-{AGAIN}~")
    assert [each for each, _ in said(table)] == [key]
    table.dead.objects[again] = (b"garbage", {})
    with pytest.raises(Fatal, match="has the name of a dead letter"):
        refused(table, record(12))


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "sparse"])
def test_objects_that_are_not_files_are_reported_without_waiting(tmp_path: Path, what: str) -> None:
    table, letters = Table(), FolderStore(tmp_path / "dead")
    for each, (body, _) in table.dead.objects.items():
        letters.put_new(each, body, {})
    [key] = refused(table, record(12))
    path = tmp_path / "dead" / key
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        (path / "inside").mkdir(parents=True)
        (path / "inside" / "it").write_bytes(b"x")
    else:
        with path.open("wb") as file:
            file.truncate(50 << 30)
    assert [problem.kind for problem in audit(table.store, letters).problems] == ["dead-letters"]
