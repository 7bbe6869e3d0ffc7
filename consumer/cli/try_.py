"""``penstock try``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import config_option, count_option, framing_option, json_option
from pipeline.errors import counted

if TYPE_CHECKING:
    from consumer.tuning.trial import Tried

FILE = click.Path(path_type=Path)
LONGEST_VALUE = 120
"""Characters of a value in the table."""


@click.command("try")
@click.argument("records", nargs=-1, type=FILE, metavar="[RECORDS|-]...")
@config_option("The configuration file of `penstock run`.", name="path", required=True)
@framing_option
@count_option
@json_option
@click.pass_context
def try_(ctx: click.Context, records: tuple[Path, ...], path: Path, framing: str, count: int, as_json: bool) -> None:
    """Run the model on records from a file, and print the resulting rows and dead letters.

    RECORDS are files with a record per line, folders with a record per file, or - for stdin, which is the default. The
    records go through decode, the batcher, retries, bisection and the row schema, as in a task. Needs no AWS, no Java
    and no stream, and writes nothing. Exits with 1 if a record became a dead letter.

    \b
    Examples:
      penstock try --config penstock.toml records.jsonl
      echo '{"text": "thanks"}' | penstock try --config penstock.toml -
    """
    from consumer.config.load import load
    from consumer.tuning.samples import payloads_in
    from consumer.tuning.trial import tried

    settings = load(path)
    found: list[bytes] = []
    for each in records or (Path("-"),):
        if count > len(found):
            found += payloads_in(each, count - len(found), framing)
    result = tried(settings, found)
    _emit(result) if as_json else _print(result)
    ctx.exit(1 if result.dead else 0)


def _emit(result: Tried) -> None:
    from consumer.cli import output

    rows = [{"record": number, "row": row} for number, row in _rows(result)]
    letters = [
        {
            "record": number,
            "kind": dead.kind,
            "reason": dead.reason,
            "traceback": dead.traceback,
            "attempts": dead.attempts,
        }
        for number, dead in result.dead.items()
    ]
    times = {"loaded_s": round(result.loaded_s, 3), "predicted_s": round(result.predicted_s, 3)}
    output.emit("try", {"rows": rows, "dead_letters": letters, **times})


def _rows(result: Tried) -> list[tuple[int, dict[str, Any]]]:
    """Rows as a Kinesis sink writes them: NaN is null, bytes are base64, times are text."""
    import json

    from pipeline.escape import harmless
    from pipeline.sinks.json_rows import encode

    rows = [harmless(json.loads(line)) for line in encode(result.rows)]
    return list(zip(result.numbers, rows or [{}] * len(result.numbers), strict=True))


def _print(result: Tried) -> None:
    from consumer.cli import output
    from pipeline.errors import cut

    if result.numbers:
        names = result.rows.column_names
        cells = zip(*(column.to_pylist() for column in result.rows.columns), strict=True)
        rows = [
            (number, *(cut("null" if value is None else str(value), LONGEST_VALUE) for value in row))
            for number, row in zip(result.numbers, cells if names else [()] * len(result.numbers), strict=True)
        ]
        output.table(["record", *names], rows)
    if result.dead:
        letters = [(number, dead.kind, dead.attempts, dead.reason) for number, dead in result.dead.items()]
        output.table(["record", "dead letter", "attempts", "reason"], letters)
        first = next((dead for dead in result.dead.values() if dead.traceback), None)
        if first is not None:
            _print_traceback(first.traceback)
    output.line(
        f"{counted(len(result.numbers), 'row')}, {counted(len(result.dead), 'dead letter')}; the model was loaded in "
        f"{output.seconds(result.loaded_s)} and took {output.seconds(result.predicted_s)}"
    )


def _print_traceback(text: str) -> None:
    from consumer.cli import output

    output.line("the first traceback:")
    for line in text.rstrip().splitlines():
        output.line(f"  {line}")
