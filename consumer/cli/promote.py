"""``penstock promote``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import DURATION, STORE_URL, Finite, Group, config_option, count_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.config.settings import Settings
    from consumer.promotion.answers import Answers
    from consumer.promotion.golden import Golden
    from consumer.promotion.verdict import PromotionCriteria, PromotionResult


FILE = click.Path(path_type=Path)
LONGEST_VALUE = 80
"""Characters of a value in the table of examples."""

LEAST_MEASURE_S = 1.0
"""A shorter measurement says too little about the throughput to judge by it."""


@click.group(cls=Group)
def promote() -> None:
    """Find out whether a new model may replace the one that runs."""


@promote.command()
@config_option("The configuration of the new model.", name="path", required=True, metavar="NEW")
@click.option(
    "--golden",
    "golden_path",
    type=FILE,
    metavar="FILE",
    help="Records that both models answer: one payload per line, lines of `penstock tail`, or a folder with a record "
    "per file.  [default: golden.jsonl beside NEW]",
)
@click.option(
    "--old", type=FILE, metavar="CONFIG", help="The configuration of the old model, which is run on the same records."
)
@click.option(
    "--table",
    type=STORE_URL,
    metavar="URL",
    help="A table whose rows are the old answers, instead of --old.  [default: the Parquet sink of NEW]",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="[COLUMN=]NUMBER",
    help="Two floats a and b are equal if |a - b| <= tolerance * max(1, |a|, |b|). Can be repeated, for single "
    "columns.  [default: 1e-05]",
)
@click.option("--ignore", metavar="NAMES", default="", help="Columns whose values may change, separated by commas.")
@click.option(
    "--max-changed",
    type=Finite(0, 1),
    default=0.0,
    show_default=True,
    help="Largest share of a column's values that may differ.",
)
@click.option(
    "--least-compared",
    type=Finite(0, 1),
    default=0.5,
    show_default=True,
    help="Least share of the records that must have an old row.",
)
@click.option(
    "--least-speed",
    type=Finite(0),
    default=0.8,
    show_default=True,
    help="Least throughput of the new model, as a share of the old one's. 0: any. Two measurements of one model differ "
    "too, on a busy machine by more than this; measure for longer there.",
)
@click.option(
    "--measure",
    "measure_s",
    type=DURATION,
    default="5s",
    show_default=True,
    help="With --old: run each model on the records again until this much time has passed, to measure its throughput. "
    "With less than 1s, the throughput is not judged.",
)
@count_option
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    path: Path,
    golden_path: Path | None,
    old: Path | None,
    table: str | None,
    tolerances: tuple[str, ...],
    ignore: str,
    max_changed: float,
    least_compared: float,
    least_speed: float,
    measure_s: float,
    count: int,
    as_json: bool,
) -> None:
    """Run golden records through the old and the new model, and compare columns, values and throughput.

    The models run as in `penstock try`, one after the other: on this machine, in one replica, writing nothing. Without
    --old, the old answers are read from the table at the sink.url of NEW, which must hold rows of these records. This
    needs records from `penstock tail`, which have their position on the stream. The old throughput is then unknown.

    Exits with 1 if a record that had a row becomes a dead letter, if more values of a column differ than --max-changed
    allows, if fewer records than --least-compared have an old row, or if the new model is too slow. Exits with 3 if the
    columns change under the same sink.url: a new model with other columns needs a new one. Exits with 4 if no row was
    compared.

    \b
    Examples:
      penstock tail --stream events --from "1h ago" --to "1s ago" --max 1000 > golden.jsonl
      penstock promote check --config penstock.toml --golden golden.jsonl
      penstock promote check --config penstock.toml --golden golden.jsonl --old penstock.toml --measure 1s --json
    """
    from consumer.cli import output
    from consumer.config.load import load
    from consumer.promotion.answers import of_model
    from consumer.promotion.verdict import column_changes, compare, refuse_other_columns
    from pipeline.errors import NothingToDo, UserError

    if old is not None and table is not None:
        raise UserError("--old and --table exclude each other. Leave one out")
    is_measured = measure_s >= LEAST_MEASURE_S
    criteria = _criteria(tolerances, ignore, max_changed, least_speed if is_measured else 0.0, least_compared)
    settings = load(path)
    records = _golden(golden_path or settings.folder / "golden.jsonl", count, settings)
    before, shared = _old(old, table, settings, records, measure_s)
    _refuse_nothing(before)
    after = of_model(settings, records.records, measure_s if before.rate else 0.0)
    refuse_other_columns(column_changes(before.columns, after.columns), shared)
    found = compare(before, after, criteria)
    if old is not None and least_speed and not is_measured:
        output.note(f"The throughput is not judged: --measure is less than {LEAST_MEASURE_S:g}s.")
    _emit(before, after, found) if as_json else _print(before, after, found)
    if found.is_empty:
        raise NothingToDo("nothing was compared. Use records that have rows from both models, in columns of both")
    ctx.exit(1 if found.problems else 0)


def _criteria(
    tolerances: Sequence[str], ignore: str, max_changed: float, least_speed: float, least_compared: float
) -> PromotionCriteria:
    from consumer.promotion.verdict import PromotionCriteria
    from pipeline.diff.tables import TOLERANCE
    from pipeline.errors import UserError

    given: dict[str, float] = {}
    for text in tolerances:
        name, _, number = text.rpartition("=")
        try:
            given[name] = float(number)
        except ValueError:
            given[name] = -1
        if not 0 <= given[name] < float("inf"):
            raise UserError(
                f"--tolerance {text}: {number!r} is not a number, 0 or greater. Write for example score=0.01"
            )
    tolerance = given.pop("", TOLERANCE)
    names = frozenset(name for name in (each.strip() for each in ignore.split(",")) if name)
    return PromotionCriteria(tolerance, given, names, max_changed, least_speed, least_compared)


def _golden(path: Path, count: int, settings: Settings) -> Golden:
    from consumer.promotion.golden import golden
    from pipeline.errors import UserError

    if not path.exists():
        times = ["--from", "1h ago", "--to", "1s ago", "--max", "1000"]
        make = shlex.join(["penstock", "tail", "--stream", settings.stream.name, *times])
        make += f" > {shlex.quote(str(path))}"
        raise UserError(f"{path}: there are no golden records. Name a file with --golden, or make one: {make}")
    return golden(path, count)


def _old(
    old: Path | None, table: str | None, settings: Settings, records: Golden, measure_s: float
) -> tuple[Answers, str | None]:
    """The old answers, and the URL that both models would write to; None if they have none in common."""
    from consumer.aws.clients import Aws
    from consumer.config.load import load
    from consumer.promotion.answers import of_model, of_table
    from pipeline.errors import NothingToDo, UserError
    from pipeline.stores import open_store

    own = _urls(settings)
    if old is not None:
        before = load(old)
        shared = next((url for url in _urls(before) if url in own), None)
        return of_model(before, records.records, measure_s), shared
    url = (table or next(iter(own), "")).rstrip("/")
    if not url:
        raise UserError("the new configuration has no Parquet sink. Name the old model's configuration with --old")
    if not records.are_known:
        raise UserError(
            f"without --old, the old answers are rows of {url}, but these records have no positions on the stream. "
            "Use records that `penstock tail` has printed, or name the old model's configuration with --old"
        )
    aws = Aws()
    store = open_store(url, lambda: aws.client("s3"))
    found = aws.ask(url, lambda: of_table(store, records.records, settings.stream.name))
    if found is None:
        raise NothingToDo(f"{url} has no files, so there are no old answers. Name the old configuration with --old")
    return found, url if url in own else None


def _urls(settings: Settings) -> list[str]:
    return [url.rstrip("/") for sink in settings.sink if (url := getattr(sink, "url", ""))]


def _refuse_nothing(before: Answers) -> None:
    from pipeline.errors import NothingToDo

    if not before.numbers and not before.dead:
        raise NothingToDo("the table has no row of these records, so nothing was compared. Use records that have rows")


def _emit(before: Answers, after: Answers, found: PromotionResult) -> None:
    import dataclasses

    from consumer.cli import output
    from consumer.cli.diff import plain
    from pipeline.escape import harmless

    sides = {
        name: {
            "versions": list(each.versions),
            "rows": len(each.numbers),
            "dead_letters": len(each.dead),
            "loaded_s": each.loaded_s,
            "records_per_s": each.rate,
        }
        for name, each in (("old", before), ("new", after))
    }
    said = dataclasses.asdict(found)
    said["column_changes"] = said.pop("changes")
    said["newly_dead"] = [
        {"record": number, "kind": after.dead[number].kind, "reason": after.dead[number].reason}
        for number in found.newly_dead
    ]
    said["examples"] = [{**each, "old": plain(each["old"]), "new": plain(each["new"])} for each in said["examples"]]
    output.emit("promote.check", harmless({"passed": not found.problems and not found.is_empty, **sides, **said}))


def _print(before: Answers, after: Answers, found: PromotionResult) -> None:
    from consumer.cli import output
    from pipeline.errors import counted

    both = (before, after)
    rows = [
        ("model.version", *(", ".join(each.versions) or None for each in both)),
        ("rows", *(len(each.numbers) for each in both)),
        ("dead letters", *(len(each.dead) if each.rate is not None else None for each in both)),
        ("loaded in", *(output.seconds(each.loaded_s) for each in both)),
        ("records per second", *(each.rate for each in both)),
    ]
    output.table(["", "old", "new"], rows, right=["old", "new"])
    if found.changes:
        output.line(f"the columns differ: {'; '.join(found.changes)}")
    columns = [
        (name, each.values, each.changed, _number(each.tolerance), _number(each.largest))
        for name, each in found.columns.items()
    ]
    names = ["column", "values", "changed", "tolerance", "largest difference"]
    output.table(names, columns, right=names[1:])
    if found.examples:
        examples = [(each.number, each.column, _short(each.old), _short(each.new)) for each in found.examples]
        output.table(["record", "column", "old", "new"], examples)
    if found.unanswered:
        output.line(f"{counted(found.unanswered, 'record')} without an old answer: not compared")
    if found.newly_rows:
        output.line(f"{counted(len(found.newly_rows), 'dead letter')} of the old model: now rows")
    if not found.problems and found.is_empty:
        return
    if not found.problems:
        output.line("the new model gives the same answers within these limits")
        return
    output.line("the new model must not be promoted:")
    for problem in found.problems:
        output.line(f"  {problem}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _short(value: Any) -> str:
    from pipeline.errors import cut

    return cut("null" if value is None else str(value), LONGEST_VALUE)
