"""``penstock diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import STORE_URL, Finite, json_option
from pipeline.errors import counted

if TYPE_CHECKING:
    from pipeline.diff.tables import Column, Difference, Example

LONGEST_VALUE = 120
"""Characters of a value in the table of examples."""


@click.command()
@click.argument("url_a", type=STORE_URL)
@click.argument("url_b", type=STORE_URL)
@click.option(
    "--tolerance",
    type=Finite(0),
    default=1e-5,
    show_default=True,
    help="Two floats a and b are equal if |a - b| <= tolerance * max(1, |a|, |b|). 0: they must be the same number.",
)
@click.option("--columns", metavar="NAMES", default="", help="Compare only these columns, separated by commas.")
@click.option(
    "--ignore",
    metavar="NAMES",
    default="",
    help="Columns not to compare, besides processed_at and model_version, which are compared only if --columns names "
    "them.",
)
@json_option
@click.pass_context
def diff(
    ctx: click.Context, url_a: str, url_b: str, tolerance: float, columns: str, ignore: str, as_json: bool
) -> None:
    """Compare two tables record by record: the same records, with the same values?

    URL_A and URL_B are urls of Parquet sinks: s3://bucket/prefix, or folders. Records are matched by record_id. A
    record is missing if only table A has a row of it, extra if only table B has one, and changed if a value differs.
    Exits with 0 if the tables are equal, and with 1 if they are not. Only reads, and may run beside the workers.

    \b
    Examples:
      penstock diff s3://bucket/enriched s3://bucket/enriched-replayed
      penstock diff out/before out/after --tolerance 0 --columns label,score
    """
    from consumer.aws.clients import Aws
    from consumer.cli import output
    from pipeline.diff.tables import DiffOptions, compare
    from pipeline.stores import open_store

    aws = Aws()
    a, b = (open_store(url, lambda: aws.client("s3")) for url in (url_a, url_b))
    options = DiffOptions(tolerance, _names(columns), _names(ignore))
    with output.progress("files") as advance:
        found = compare(a, b, options, (url_a, url_b), tell=lambda done, total: advance(1, total=total))
    if as_json:
        output.emit("diff", _said(found, url_a, url_b, tolerance))
    else:
        _print(found, url_a, url_b)
    ctx.exit(0 if found.equal else 1)


def _names(text: str) -> list[str]:
    return [name for name in (each.strip() for each in text.split(",")) if name]


def _said(found: Difference, url_a: str, url_b: str, tolerance: float) -> dict[str, Any]:
    import dataclasses

    from pipeline.escape import harmless

    said = dataclasses.asdict(found)
    said["examples"] = [{**each, "a": plain(each["a"]), "b": plain(each["b"])} for each in said["examples"]]
    tables: dict[str, Any] = harmless(
        {"equal": found.equal, "a": url_a, "b": url_b, "tolerance": tolerance, **said},
    )
    return tables


def _print(found: Difference, url_a: str, url_b: str) -> None:
    from consumer.cli import output

    output.line(f"table A: {url_a}")
    output.line(f"table B: {url_b}")
    rows = [
        ("rows", found.rows["a"], found.rows["b"]),
        ("rows of a record that is there twice", found.duplicates["a"], found.duplicates["b"]),
        ("dead letters", found.dead["a"], found.dead["b"]),
        ("records that only this table has", found.missing, found.extra),
    ]
    output.table(["", "table A", "table B"], rows, right=["table A", "table B"])
    for name, kinds in found.types.items():
        output.line(f"column {name} cannot be compared: it is {kinds[0]} in A and {kinds[1]} in B")
    for what, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            output.line(f"only table {what} has the columns {', '.join(names)}")
    different = {name: column for name, column in found.columns.items() if column.changed}
    if different:
        told = [(name, each.changed, _largest(each)) for name, each in different.items()]
        output.table(
            ["column", "values that differ", "largest difference of floats"], told, right=["values that differ"]
        )
    if found.examples:
        output.table(["example", "record", "column", "A", "B"], [_row(each) for each in found.examples])
    output.line(f"{counted(found.matched, 'record')} in both tables, {found.changed:,} changed: {_verdict(found)}")


def _largest(column: Column) -> str:
    return "" if column.largest is None else f"{column.largest:.3g}"


def _verdict(found: Difference) -> str:
    within = max((column.largest or 0.0 for column in found.columns.values()), default=0.0)
    if not found.equal:
        return "the tables are not equal"
    return "the tables are equal" + (f" (floats differ by at most {within:.3g})" if within else "")


def _row(example: Example) -> tuple[str, ...]:
    if example.column is None:
        return (example.kind, example.record_id, "", "", "")
    return (example.kind, example.record_id, example.column, _short(example.a), _short(example.b))


def _short(value: Any) -> str:
    from pipeline.errors import cut

    return cut("null" if value is None else str(value), LONGEST_VALUE)


def plain(value: Any) -> Any:
    """A value for JSON: NaN, infinity, times and bytes become text."""
    import math

    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
