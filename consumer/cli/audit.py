"""``penstock audit``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from consumer.cli import output
from consumer.cli.options import STORE_URL, STREAM_NAME, json_option
from pipeline.errors import counted

if TYPE_CHECKING:
    from consumer.admin.audit_stream import Comparison
    from pipeline.stores.base import ObjectStore
    from pipeline.table.audit import AuditReport

SHOWN = 20


@click.command()
@click.argument("url", type=STORE_URL)
@click.option(
    "--dead-letter", type=STORE_URL, metavar="URL", help="Where the dead letters are; checks them against the files."
)
@click.option(
    "--stream", type=STREAM_NAME, metavar="NAME", help="The source stream; compares the table with its records."
)
@click.option(
    "--complete", is_flag=True, help="With --stream: report records that have not been processed yet as problems."
)
@click.option("--repair", is_flag=True, help="Write dead letters that a crash left unwritten. Needs --dead-letter.")
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    url: str,
    dead_letter: str | None,
    stream: str | None,
    complete: bool,
    repair: bool,
    as_json: bool,
) -> None:
    """Check a Parquet table's files, shard by shard, and report every problem.

    URL is the url of the sink: s3://bucket/prefix, or a folder. Exits with 1 on a gap, an overlap, a duplicate record,
    a wrong count, a missing or unexpected dead letter, a modified file, or an unexpected file. With --stream, also if
    a record in the stream has neither a row nor a dead letter, or the table has a record that is not in the stream.
    Writes nothing unless --repair is given. Can run at any time.

    \b
    Examples:
      penstock audit s3://bucket/enriched --dead-letter s3://bucket/dead-letter
      penstock audit s3://bucket/enriched --stream events --json
    """
    from consumer.admin.audit_stream import compare
    from consumer.aws.clients import Aws
    from pipeline.errors import UserError
    from pipeline.stores import open_store
    from pipeline.table import audit as auditor
    from pipeline.table.staged_letters import Ledger

    if complete and stream is None:
        raise UserError("--complete needs the stream. Name it with --stream")
    if repair and dead_letter is None:
        raise UserError("--repair writes dead letters. Give their url with --dead-letter")
    aws = Aws()

    def store(at: str) -> ObjectStore:
        return open_store(at, lambda: aws.client("s3"))

    table, letters = store(url), store(dead_letter) if dead_letter else None
    created_s = aws.stream_created_s(stream) if stream else 0
    if repair and dead_letter is not None:
        written = auditor.repair(table, Ledger.at(dead_letter, store))
        output.note(f"wrote the missing dead letters of {counted(written, 'file')}")
    report = auditor.audit(table, letters)
    if not report.files and not report.problems and not complete:
        raise UserError(_nothing_at(url))
    comparison = None
    if stream:
        kinesis = aws.client("kinesis")
        with _progress() as tell:
            comparison = aws.ask(
                f"stream {stream}", lambda: compare(kinesis, stream, created_s, table, letters, tell=tell)
            )
        report.problems += comparison.problems(complete=complete)
    _say_json(report, comparison) if as_json else _say(report, comparison, complete=complete)
    ctx.exit(1 if report.problems else 0)


def _nothing_at(url: str) -> str:
    """The error for a URL without files. A correct URL has none either until a worker writes the first."""
    from consumer.config.sink_settings import ParquetSettings

    missing = "no files yet" if url.startswith("s3://") or Path(url).is_dir() else "there is no such folder yet"
    default_s = ParquetSettings.model_fields["flush_interval_s"].default
    return (
        f"{url}: {missing}. A worker writes the first file once its oldest row is flush_interval_s old "
        f"({default_s} by default), and when it leaves. If the sink writes elsewhere, pass that URL (without dt=…)"
    )


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show on stderr how many records of the stream have been read, if it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("reading the stream, records: {task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        reading = bar.add_task("")
        yield lambda records: bar.advance(reading, records)


def _say_json(report: AuditReport, comparison: Comparison | None) -> None:
    import dataclasses

    said = dataclasses.asdict(report)
    said["reached"] = {name: str(position) for name, position in report.reached.items()}
    said["begins"] = {name: str(position) for name, position in report.begins.items()}
    said["shards"] = report.shards
    if comparison is not None:
        said["against"] = comparison.to_dict()
    output.emit("audit", said)


def _say(report: AuditReport, comparison: Comparison | None, *, complete: bool) -> None:
    _say_some([f"{problem.kind}: {problem.key}: {problem.detail}" for problem in report.problems])
    if comparison is not None:
        if not complete:
            _say_some(
                [
                    f"{shard_id}: {counted(records, 'record')} not read yet"
                    for shard_id, records in comparison.behind.items()
                ]
            )
        _say_some(
            [
                f"{shard_id}: user records of another shard's hash keys in {aggregates:,} of its aggregates; they are "
                "delivered, and their producer may have sent them again"
                for shard_id, aggregates in comparison.misplaced.items()
            ]
        )
        totals = comparison.totals()
        output.line(
            f"{counted(totals['compared'], 'record')} of {comparison.stream} compared, "
            f"{totals['behind']:,} not read yet; "
            f"{totals['retired']:,} rows and dead letters cannot be compared, because their records have expired"
        )
    redriven = f", {report.redriven:,} of them redriven" if report.redriven else ""
    output.line(
        f"{counted(report.files, 'file')} of {counted(report.shards, 'shard')}, {counted(report.rows, 'row')}, "
        f"{counted(report.dead_letters, 'dead letter')}{redriven}: {_problems(len(report.problems))}"
    )


def _say_some(lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        output.line(line)
    if len(lines) > SHOWN:
        output.line(f"… and {len(lines) - SHOWN} more")


def _problems(number: int) -> str:
    return counted(number, "problem") if number else "no problems"
