"""Puts payloads of an archive back on a stream: JSON lines, or the rows of a Parquet table. Blocks.

Keys are kept, and records of one key arrive in the order of the archive. :mod:`consumer.admin.replay.archive_note` has
what is put.
"""

from __future__ import annotations

import json
import math
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.admin.replay.archive_note import ArchiveNote, Seen, StopBetween
from consumer.aws.put import PutEntry, PutReport, put_all
from consumer.aws.record_lines import payload_of
from pipeline.errors import NothingToDo, UserError
from pipeline.stores.base import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa
    from mypy_boto3_kinesis import KinesisClient

AT_A_TIME = 5_000
"""Maximum number of records between two notes."""

NOTE_S = 2.0
"""At a slow rate, the records of this many seconds."""


@dataclass(frozen=True, slots=True)
class Archive:
    """``records``: number of records, None if unknown. ``entries`` yields them in order, from the start each time."""

    source: str
    records: int | None
    entries: Callable[[], Iterator[PutEntry]]


def of_lines(path: Path) -> Archive:
    """JSON lines as ``penstock tail`` prints them, or dead letters.

    :raises UserError: the file does not exist, or its first line is neither; while it is read, if another is neither.
    """
    records = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    records += 1
                    if records == 1:
                        _of_line(line.strip(), f"{path} line {number}")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Name a file of JSON lines") from None

    def entries() -> Iterator[PutEntry]:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _of_line(line.strip(), f"{path} line {number}")

    return Archive(str(path), records, entries)


def of_table(url: str, store: ObjectStore, *, payload: str | None, fields: tuple[str, ...], key: str) -> Archive:
    """Rows of Parquet files, in the order of the files' names. In a table of Penstock's that is the order of each key.

    :param payload: the column that holds whole payloads, text or bytes.
    :param fields: without ``payload``, the columns from which a JSON object is made.
    :raises UserError: there are no files, or they do not have these columns.
    """
    import pyarrow.parquet as pq

    keys = sorted(name for name in store.list("") if name.endswith(".parquet"))
    if not keys:
        raise UserError(f"{url}: no Parquet files there. Name the url of a table, without dt=")
    _check_columns(url, pq.read_schema(_file(store, keys[0])), payload, fields, key)
    records = sum(pq.read_metadata(_file(store, name)).num_rows for name in keys)
    wanted = [key, *([payload] if payload else fields)]

    def entries() -> Iterator[PutEntry]:
        for name in keys:
            row = 0
            for batch in pq.ParquetFile(_file(store, name)).iter_batches(columns=wanted):
                for values in batch.to_pylist():
                    row += 1
                    yield _of_row(values, f"{name} row {row}", payload, fields, key)

    return Archive(url, records, entries)


def put(
    kinesis: KinesisClient,
    stream: str,
    archive: Archive,
    note: ArchiveNote,
    *,
    rate: float | None,
    largest_bytes: int,
    tell: Callable[[int], object],
    stop: StopBetween,
) -> PutReport:
    """Put every record that is not noted as put, and note the end. Hold the note's lock around it.

    :raises RefusedError: the archive no longer begins with the records that are noted.
    :raises KeyboardInterrupt: ``stop`` was asked. Unless it was asked twice, the note has exactly what was put.
    """
    total = PutReport()
    entries = archive.entries()
    seen = Seen()
    for entry in islice(entries, note.done):
        seen.add(entry)
    note.must_be(seen)
    size = max(1, min(AT_A_TIME, int(NOTE_S * rate))) if rate else AT_A_TIME
    some = list(islice(entries, size))
    while some:
        with stop.busy():
            report = put_all(kinesis, stream, some, rate=rate, largest_bytes=largest_bytes, tell=tell)
            for entry in some:
                seen.add(entry)
            note.passed(seen)
        _add(total, report)
        put, some = len(some), list(islice(entries, size))
        if some and rate:
            stop.sleep(put / rate - report.took_s)
    note.passed(seen, finished=True)
    return total


def refuse_done(archive: Archive, note: ArchiveNote) -> None:
    """:raises NothingToDo: the archive has no record, or all of them were put. :raises RefusedError: the archive has
    other records now."""
    if archive.records == 0:
        raise NothingToDo(f"{archive.source} has no records")
    if note.finished_at is None or archive.records != note.done:
        return
    seen = Seen()
    for entry in archive.entries():
        seen.add(entry)
    note.must_be(seen)
    raise NothingToDo(f"done already at {note.finished_at}; --again repeats it")


def _of_line(line: bytes, source: str) -> PutEntry:
    try:
        letter = json.loads(line)
        if isinstance(letter, dict) and isinstance(letter.get("payload_base64"), str):
            data, key = b64decode(letter["payload_base64"], validate=True), letter.get("partition_key")
        else:
            data, key = payload_of(line)
    except ValueError as error:
        raise UserError(f"{source}: {error}. --from-jsonl takes what `penstock tail` prints, or dead letters") from None
    return PutEntry(data, key or uuid.uuid4().hex, source=source)


def _of_row(values: Mapping[str, Any], source: str, payload: str | None, fields: tuple[str, ...], key: str) -> PutEntry:
    partition_key = uuid.uuid4().hex if values[key] in (None, "") else str(values[key])
    if payload is None:
        text = json.dumps({name: _json(values[name]) for name in fields}, ensure_ascii=False)
        return PutEntry(text.encode(), partition_key, source=source)
    data = values[payload]
    if data is None:
        raise UserError(f"{source}: column {payload} is null. Name a column that holds every payload")
    return PutEntry(data.encode() if isinstance(data, str) else bytes(data), partition_key, source=source)


def _check_columns(url: str, schema: pa.Schema, payload: str | None, fields: tuple[str, ...], key: str) -> None:
    columns = schema.names
    there = ", ".join(columns)
    if (payload is None) is (not fields):
        raise UserError(
            f"{url} holds rows that a model made, not payloads. Name the column that holds whole payloads with "
            f"--payload, or the columns to make a JSON object of with --fields. Its columns: {there}"
        )
    if missing := [name for name in (key, *([payload] if payload else fields)) if name not in columns]:
        raise UserError(f"{url} has no column {missing[0]}. Its columns: {there}")
    if payload and not _holds(schema.field(payload).type, "string", "binary"):
        raise UserError(
            f"{url}: column {payload} is {schema.field(payload).type}, not text or bytes. Name the column that holds "
            "whole payloads, or make a JSON object of columns with --fields"
        )
    if not _holds(schema.field(key).type, "string", "int"):
        raise UserError(
            f"{url}: column {key} is {schema.field(key).type}, not text or a whole number. Name another with --key"
        )


def _holds(kind: pa.DataType, *names: str) -> bool:
    """Whether it is one of these kinds, of any size, also as a dictionary. Nulls alone are of each kind."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_null(kind) or (any(name in str(kind) for name in names) and not pa.types.is_nested(kind))


def _file(store: ObjectStore, name: str) -> pa.BufferReader:
    import pyarrow as pa

    body = store.get(name)
    if body is None:
        raise UserError(f"{name} no longer exists. Use an archive that does not change in the meantime")
    return pa.BufferReader(body)


def _json(value: object) -> object:
    """Convert a value to JSON: times as ISO 8601, bytes as base64, NaN and infinities as null, others as text."""
    match value:
        case dict():
            return {str(name): _json(each) for name, each in value.items()}
        case list() | tuple():
            return [_json(each) for each in value]
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case bytes():
            return b64encode(value).decode()
        case datetime() | date():
            return value.isoformat()
    return str(value)


def _add(total: PutReport, more: PutReport) -> None:
    total.records += more.records
    total.bytes += more.bytes
    total.calls += more.calls
    total.retried += more.retried
    total.took_s += more.took_s
    total.shards.update(more.shards)
    total.unfit += more.unfit
    total.unfit_shown += more.unfit_shown
