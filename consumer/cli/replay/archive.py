"""``penstock replay --from-parquet`` and ``--from-jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli import output
from consumer.cli.options import rate_text
from pipeline.errors import UserError, counted

if TYPE_CHECKING:
    from consumer.admin.application import Target
    from consumer.admin.replay.archive import Archive
    from consumer.admin.replay.archive_note import ArchiveNote
    from consumer.aws.clients import Aws


def replay(target: Target, options: dict[str, Any]) -> None:
    """Plan, print, and with --execute carry out; exits with 1 if a record could not be put."""
    from consumer.admin.replay.archive_note import ArchiveNote
    from consumer.aws.clients import Aws

    aws = Aws()
    aws.stream_created_s(target.stream)
    archive = _archive(options, aws)
    how = [str(options[name]) for name in ("payload", "fields", "key")]
    note = ArchiveNote(Path(), archive.source, target.stream, how)
    _begin(archive, note, options)
    said = _said(target.stream, archive, note, options)
    if not options["as_json"]:
        _print(said)
    if options["execute"]:
        with note.locked():
            _begin(archive, note, options)
            said |= _put(target.stream, archive, note, options, aws)
    if options["as_json"]:
        output.emit("replay.archive", said)
    elif options["execute"]:
        output.line(
            f"done: {counted(said['put'], 'record')} put, {said['retried']:,} retried, {said['unfit']:,} not put"
        )
    else:
        output.line("nothing changed; run again with --execute to put the records")
    if said["unfit"]:
        click.get_current_context().exit(1)


def _begin(archive: Archive, note: ArchiveNote, options: dict[str, Any]) -> None:
    from consumer.admin.replay.archive import refuse_done

    if options["again"]:
        note.forget_finished()
    refuse_done(archive, note)


def _archive(options: dict[str, Any], aws: Aws) -> Archive:
    from consumer.admin.replay import archive
    from pipeline.stores import open_store

    url, path = options["from_parquet"], options["from_jsonl"]
    if (url is None) is (path is None):
        raise UserError("Give one of --from-parquet URL and --from-jsonl FILE")
    if path is not None:
        return archive.of_lines(path)
    fields = tuple(name for name in (options["fields"] or "").split(",") if name)
    store = open_store(url, lambda: aws.client("s3"))
    return archive.of_table(url, store, payload=options["payload"], fields=fields, key=options["key"])


def _said(stream: str, archive: Archive, note: ArchiveNote, options: dict[str, Any]) -> dict[str, Any]:
    left = None if archive.records is None else max(0, archive.records - note.done)
    rate = options["rate"]
    return {
        "stream": stream,
        "source": archive.source,
        "records": archive.records,
        "put_before": note.done,
        "rate": rate,
        "takes_s": left / rate if left is not None and rate else None,
        "a_day": "unchanged; Kinesis charges once for each record that is put (by units of 25 KB in provisioned mode)",
        "executed": False,
        "put": 0,
        "retried": 0,
        "unfit": 0,
    }


def _put(stream: str, archive: Archive, note: ArchiveNote, options: dict[str, Any], aws: Aws) -> dict[str, Any]:
    from consumer.admin.replay.archive import put
    from consumer.admin.replay.archive_note import StopBetween
    from consumer.aws.put import largest_record_bytes

    kinesis = aws.client("kinesis")
    largest = aws.ask(f"stream {stream}", lambda: largest_record_bytes(kinesis, stream))
    stop = StopBetween(lambda: output.note("stops after the records that are on their way; Ctrl-C again: at once"))
    with output.progress("records put", archive.records) as advance, stop.signals():
        advance(note.done, before=True)
        try:
            report = aws.ask(
                f"stream {stream}",
                lambda: put(
                    kinesis,
                    stream,
                    archive,
                    note,
                    rate=options["rate"],
                    largest_bytes=largest,
                    tell=advance,
                    stop=stop,
                ),
            )
        except KeyboardInterrupt:
            rest = "" if stop.exact else "; records that were put since then are put again"
            output.note(f"interrupted. The same command continues after {counted(note.done, 'record')}{rest}")
            raise
    for each in report.unfit_shown:
        output.note(f"not put: {each}")
    return {"executed": True, "put": report.records, "retried": report.retried, "unfit": report.unfit}


def _print(said: dict[str, Any]) -> None:
    output.line(f"{_records(said['records'])} of {said['source']} onto stream {said['stream']}")
    if said["put_before"]:
        output.line(f"{said['put_before']:,} of them were put before; it continues there")
    rate = f"at most {rate_text(said['rate'])} records/s" if said["rate"] else "as quickly as the stream takes them"
    output.line(f"a day: {said['a_day']}")
    output.line(f"{rate}; takes {output.seconds(said['takes_s'])}; kinesis:PutRecords, again for what is refused")


def _records(number: int | None) -> str:
    return "unknown records" if number is None else counted(number, "record")
