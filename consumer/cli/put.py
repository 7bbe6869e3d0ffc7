"""``penstock put``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from consumer.cli.options import RATE, json_option, stream_options
from pipeline.errors import counted

if TYPE_CHECKING:
    from consumer.admin.application import Target
    from consumer.aws.put import PutEntry, PutReport


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@stream_options
@click.option(
    "--key",
    "key_field",
    metavar="FIELD",
    help="The JSON field that holds the partition key, such as user.id. Without it, each record gets a random key.",
)
@click.option(
    "--records",
    "as_records",
    is_flag=True,
    help="The lines are records as `penstock tail` prints them. Their payloads and keys are put.",
)
@click.option("--rate", type=RATE, metavar="N", help="Maximum number of records per second.")
@click.option(
    "--from-line",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Begin at this line of FILE, after a run that stopped there.",
)
@click.option("--aggregate", is_flag=True, help="Pack records into KPL aggregates.")
@json_option
@click.pass_context
def put(
    ctx: click.Context,
    file: BinaryIO,
    target: Target,
    key_field: str | None,
    as_records: bool,
    rate: float | None,
    from_line: int,
    aggregate: bool,
    as_json: bool,
) -> None:
    """Put one record per line of FILE (standard input by default) on a stream.

    A line is the payload, byte for byte. Empty lines are skipped. Records of one key arrive in the order of their
    lines: only one of them is sent at a time, so many keys are faster than few. Records that Kinesis refuses for now
    are sent again. Prints a report. Exits with 1 if a record could not be put, such as one that is larger than the
    stream allows. A line that cannot be read ends the command after all lines before it are put; --from-line continues
    there.

    \b
    Examples:
      penstock put events.jsonl --stream events --key user
      penstock put events.jsonl --stream events --rate 100 --aggregate
    """
    from consumer.aws.clients import Aws
    from consumer.aws.put import largest_record_bytes, put_all
    from consumer.cli.output import progress
    from pipeline.errors import NothingToDo, UserError

    if as_records and key_field:
        raise UserError("--records takes the keys from the lines. Leave out --key")
    if key_field == "":
        raise UserError("--key is empty. Name a field, or leave out --key for random keys")
    aws = Aws()
    kinesis, stream = aws.client("kinesis"), target.stream
    largest = aws.ask(f"stream {stream}", lambda: largest_record_bytes(kinesis, stream))
    lines = _Lines(file, from_line)
    checked = _Checked(_recorded(lines) if as_records else _entries(lines, key_field))
    entries: Iterable[PutEntry] = checked
    if aggregate:
        entries = aws.ask(f"stream {stream}", lambda: _packed(kinesis, stream, checked))
    with progress("records put") as advance, _told_where_it_ends(advance) as tell:
        report = aws.ask(
            f"stream {stream}",
            lambda: put_all(kinesis, stream, entries, rate=rate, largest_bytes=largest, tell=tell),
        )
    if not (report.records or report.unfit or checked.error):
        raise NothingToDo("there is no line to put")
    if not checked.error or report.records:
        _say(report, stream, as_json)
    if checked.error:
        before = "all lines before it are put" if lines.number > 1 else "nothing was put"
        raise UserError(f"{checked.error}; {before}. Correct the line, and continue with --from-line {lines.number}")
    ctx.exit(1 if report.unfit else 0)


@contextmanager
def _told_where_it_ends(advance: Callable[[int], object]) -> Iterator[Callable[[int], None]]:
    """After Ctrl-C there is no report, but records are on the stream: say how many."""
    from consumer.cli.output import note

    put = 0

    def tell(records: int) -> None:
        nonlocal put
        put += records
        advance(records)

    try:
        yield tell
    except BaseException:
        if put:
            note(f"stopped after {counted(put, 'record')}, which the stream has now, perhaps not of the first lines")
        raise


def _packed(kinesis: Any, stream: str, entries: Iterable[PutEntry]) -> Iterator[PutEntry]:
    from consumer.aws.aggregator import aggregated
    from consumer.aws.hash_ranges import of_shards
    from consumer.aws.shards import known, spread_by_key
    from pipeline.errors import UserError

    if not spread_by_key(kinesis, stream):
        raise UserError(f"stream {stream} distributes records by itself (AUTO). Leave out --aggregate")
    open_shards = {name: shard for name, shard in known(kinesis, stream).items() if shard.open}
    return aggregated(entries, list(of_shards(open_shards).values()))


class _Lines:
    """The position of each line, and the line. ``number``: that of the last one."""

    def __init__(self, file: BinaryIO, first: int) -> None:
        self.number = 0
        self._file = file
        self._first = first

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        name = getattr(self._file, "name", "<stdin>")
        for number, line in enumerate(self._file, 1):
            self.number = number
            if number >= self._first and (stripped := line.strip(b"\r\n")):
                yield f"{name} line {number}", stripped


class _Checked:
    """The entries before a line that cannot be read, and the ``error`` of that line; None if there is none."""

    def __init__(self, entries: Iterator[PutEntry]) -> None:
        self.error: Exception | None = None
        self._entries = entries

    def __iter__(self) -> Iterator[PutEntry]:
        from pipeline.errors import UserError

        try:
            yield from self._entries
        except UserError as error:
            self.error = error


def _entries(lines: _Lines, key_field: str | None) -> Iterator[PutEntry]:
    import uuid

    from consumer.aws.put import PutEntry

    for source, line in lines:
        key = _key(line, key_field, source) if key_field else uuid.uuid4().hex
        yield PutEntry(line, key, source=source)


def _recorded(lines: _Lines) -> Iterator[PutEntry]:
    import uuid

    from consumer.aws.put import PutEntry
    from consumer.aws.record_lines import payload_of
    from pipeline.errors import UserError

    for source, line in lines:
        try:
            data, key = payload_of(line)
        except ValueError as error:
            raise UserError(f"{source}: {error}. --records takes what `penstock tail` prints") from None
        yield PutEntry(data, key or uuid.uuid4().hex, source=source)


def _key(line: bytes, path: str, source: str) -> str:
    import json

    from pipeline.errors import UserError

    try:
        value = json.loads(line)
        for name in path.split("."):
            value = value[name]
    except ValueError:
        raise UserError(f"{source}: not JSON. --key needs lines that are JSON objects") from None
    except (KeyError, TypeError):
        raise UserError(f"{source}: no field {path}. Name a field that each line has, or leave out --key") from None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{source}: {path} is not a text or a number. Name another field with --key")
    return str(value)


def _say(report: PutReport, stream: str, as_json: bool) -> None:
    from dataclasses import asdict

    from consumer.cli.output import emit, line, note, seconds

    if as_json:
        emit("put", {"stream": stream, **asdict(report)})
        return
    for each in report.unfit_shown:
        note(f"not put: {each}")
    rate = f", {report.records / report.took_s:,.0f} records/s" if report.took_s > 0 else ""
    line(
        f"{counted(report.records, 'record')} on {counted(len(report.shards), 'shard')} of {stream} in "
        f"{seconds(report.took_s)}{rate}; "
        f"{counted(report.calls, 'request')}, {counted(report.retried, 'record')} retried, {report.unfit:,} not put"
    )
