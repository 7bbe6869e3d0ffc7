"""``penstock dead-letters redrive``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.dead_letters.options import filter_options
from consumer.cli.options import RATE, config_option, execute_option, json_option
from pipeline.errors import counted

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
    from consumer.letters.letter import LetterFilter
    from consumer.letters.plan import RedrivePlan
    from consumer.letters.redrive import Result

SHOWN_FAILURES = 5


@click.command()
@config_option(
    "The configuration file of `penstock run`. Its model is run, and its table gets the rows.",
    name="path",
    required=True,
)
@filter_options
@click.option("--rate", type=RATE, metavar="N", help="Maximum number of letters per second.")
@click.option("--canary", type=click.IntRange(1), help="Try this many first; stop there if any fails.")
@click.option("--again", is_flag=True, help="Also try letters that failed again with this model.version.")
@execute_option
@json_option
def redrive(
    path: Path, chosen: LetterFilter, rate: float | None, canary: int | None, again: bool, execute: bool, as_json: bool
) -> None:
    """Run dead letters through the model again; records that pass get their row in the table.

    Prints the plan; --execute carries it out. The records are not put back on the stream, and no other sink gets the
    rows. A record never gets more than one row, even if several commands redrive it at once. A record that fails again
    stays a dead letter, and the failure is counted; it is not tried again with the same model.version unless --again is
    given. Workers may run at the same time. After an interruption, run the same command again: it continues
    where it stopped. Letters are not deleted, not even when their record has a row, and a redrive cannot be undone.

    A letter cannot be redriven if it has no payload, if the payload is an aggregate that cannot be read, or if no file
    of the table names the letter. Exits with 1 if a letter failed again, and with 4 if there is nothing to redrive.

    \b
    Examples:
      penstock dead-letters redrive --config penstock.toml --kind timeout
      penstock dlq redrive --config penstock.toml --reason "out of memory" --canary 20 --rate 50 --execute
    """
    import asyncio

    from consumer.cli import output
    from consumer.config.load import load
    from consumer.letters.places import of_settings, table_url
    from consumer.letters.plan import plan
    from pipeline.errors import NothingToDo, UserError

    settings = load(path)
    places = of_settings(settings)
    if places.judge is None:
        raise UserError("redriven rows go into a table, and the configuration has no Parquet sink. Add one")
    with output.progress("reading dead letters") as advance:
        planned = plan(
            places.letters,
            places.judge,
            chosen,
            model_version=settings.model.version,
            again=again,
            tell=advance,
        )
    said = output.joined(_said(planned, settings, table_url(settings) or ""), _estimate(planned, settings, rate))
    if not as_json:
        _print(said)
    if execute and planned.records:
        result = _interruptible(
            lambda: asyncio.run(_carry_out(settings, planned, rate or 0.0, canary or 0, again=again))
        )
        _conclude(said, result, planned, as_json=as_json)
    elif as_json:
        output.emit("dead-letters.redrive", {**said, "executed": False})
    if not planned.records:
        raise NothingToDo("there is nothing to redrive")
    if not execute and not as_json:
        output.line("nothing was done. Give --execute to redrive them")


def _said(planned: RedrivePlan, settings: Settings, table: str) -> dict[str, Any]:
    kinds: dict[str, dict[str, int]] = {}
    for (kind, state), count in planned.kinds.items():
        kinds.setdefault(kind, {})[state] = count
    return {
        "table": table,
        "model_version": settings.model.version,
        "kinds": kinds,
        "redrive": planned.records,
        "payload_bytes": planned.bytes,
        "shard_days": planned.places,
        "failed_again_with_this_version": planned.skipped,
        "cannot": dict(planned.cannot),
        "other_sinks": [name for name in map(_sink, settings.sink) if name != table],
    }


def _sink(entry: ParquetSettings | KinesisSinkSettings) -> str:
    return entry.url if entry.type == "parquet" else f"kinesis:{entry.stream}"


def _estimate(planned: RedrivePlan, settings: Settings, rate: float | None) -> dict[str, Any]:
    from consumer.admin.estimate import UNCHANGED, Pace, of_one_task
    from consumer.admin.observed import pace
    from consumer.aws.clients import Aws

    on_aws = settings.dead_letter.url.startswith("s3://")  # in folders, nothing else needs AWS
    known = pace(Aws(), settings.stream.application) if on_aws else Pace()
    return of_one_task(planned.records, planned.bytes, rate, known, UNCHANGED).to_dict()


def _print(said: dict[str, Any]) -> None:
    from consumer.cli import output

    states = ("waits", "failed again", "redriven", "cannot be redriven")
    rows = [(kind, *(counts.get(state, 0) for state in states)) for kind, counts in said["kinds"].items()]
    if rows:
        output.table(["kind", *states], rows, right=states)
    for why, count in said["cannot"].items():
        output.line(f"{count:,} cannot be redriven: {why}")
    if skipped := said["failed_again_with_this_version"]:
        output.line(
            f"{skipped:,} failed again with model version {said['model_version']}: --again tries them once more"
        )
    if said["redrive"]:
        output.line(
            f"plan: run {counted(said['redrive'], 'record')} ({said['payload_bytes'] / 2**20:,.1f} MiB) through model "
            "version "
            f"{said['model_version']}, and write the rows of those that pass to {said['table']}, in files of their own "
            f"for {counted(said['shard_days'], 'shard-day')}"
        )
        if killed := sum(said["kinds"].get("killed", {}).get(state, 0) for state in states[:2]):
            output.line(
                f"{killed:,} of the letters are of the kind killed: they ended tasks, and may end this command, too. "
                "Leave them out with --where \"kind != 'killed'\""
            )
        for line in output.estimate(said)[1:]:
            output.line(line)
        output.line("a redrive cannot be undone: its rows stay in the table")
        if said["other_sinks"]:
            output.line(f"only {said['table']} gets these rows; not {', '.join(said['other_sinks'])}")


def _interruptible(work: Callable[[], Result]) -> Result:
    from consumer.cli import output

    try:
        return work()
    except KeyboardInterrupt:
        output.note("interrupted. Run the same command again to continue")
        raise


async def _carry_out(settings: Settings, planned: RedrivePlan, rate: float, canary: int, *, again: bool) -> Result:
    """Load the model, check that the table takes its rows, and redrive the letters."""
    from consumer.cli import output
    from consumer.letters.carry_out import carry_out

    with output.progress("redriving", planned.records) as advance:
        return await carry_out(settings, planned, rate=rate, canary=canary, again=again, tell=advance, say=output.note)


def _conclude(said: dict[str, Any], result: Result, planned: RedrivePlan, *, as_json: bool) -> None:
    """Print the result; exit with 1 if a letter failed again."""
    from consumer.cli import output
    from pipeline.escape import harmless

    left = planned.records - result.tried
    if as_json:
        failures = [
            {"record_id": record_id, "kind": each.kind, "reason": each.reason}
            for record_id, each in zip(result.ids, result.failures, strict=True)
        ]
        done = {"redriven": result.redriven, "failed": result.failed, "not_tried": left, "stopped": result.stopped}
        output.emit("dead-letters.redrive", {**said, "executed": True, **done, "failures": harmless(failures)})
    else:
        for record_id, failure in list(zip(result.ids, result.failures, strict=True))[:SHOWN_FAILURES]:
            output.line(f"failed again: {record_id}: {failure.kind}: {failure.reason}")
        output.line(f"{result.redriven:,} redriven, {result.failed:,} failed again, {left:,} not tried")
        if result.stopped:
            output.line("the canary failed, so nothing more was tried. `penstock dead-letters show` says why")
    if result.failed:
        click.get_current_context().exit(1)
