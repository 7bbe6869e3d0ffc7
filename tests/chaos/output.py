"""The table after a storm: its rows and dead letters, read from S3, and the auditor's report."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from consumer.admin.audit_stream import compare
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.audit import audit
from pipeline.table.names import TABLE_FILE, first_of
from tests.chaos.checks import Letter, Row

COLUMNS = ("record_id", "sequence_number", "sub_sequence_number", "n", "partition_key")


def rows(table: ObjectStore) -> list[Row]:
    """The files of each shard, one after the other, in the order in which they were written."""
    found: list[Row] = []
    keys = [(match["list"], first_of(key), key) for key in table.list("") if (match := TABLE_FILE.fullmatch(key))]
    for place, _, key in sorted(keys):
        file = pq.ParquetFile(pa.BufferReader(table.get(key))).read(list(COLUMNS), use_threads=False)
        found += [_row(row, place) for row in file.to_pylist()]
    return found


def _row(row: Mapping[str, Any], place: str) -> Row:
    position = Position(int(row["sequence_number"]), row["sub_sequence_number"])
    return Row(row["record_id"], place, position, row["n"], row["partition_key"] is None)


def dead_letters(store: ObjectStore) -> list[Letter]:
    return [_letter(line) for key in store.list("") for line in (store.get(key) or b"").splitlines()]


def _letter(line: bytes) -> Letter:
    """Keeps only the fields that differ, because there may be a million rows."""
    fields = json.loads(line)
    payload = base64.b64decode(fields["payload_base64"])
    return Letter(fields["record_id"], sys.intern(fields["kind"]), sys.intern(fields["reason"]), payload)


def audited(table: ObjectStore, letters: ObjectStore, kinesis: Any, stream: str) -> tuple[int, list[str]]:
    """The number of files, and the report of ``penstock audit --stream --complete``."""
    report = audit(table, letters)
    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    comparison = compare(kinesis, stream, int(summary["StreamCreationTimestamp"].timestamp()), table, letters)
    found = [*report.problems, *comparison.problems(complete=True)]
    return report.files, [f"{problem.kind}: {problem.key}: {problem.detail}" for problem in found]
