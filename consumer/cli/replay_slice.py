"""``penstock replay --from TIME --to TIME``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from consumer.cli import output
from consumer.cli.options import command_line
from pipeline.errors import UserError, counted

if TYPE_CHECKING:
    from consumer.admin.application import Target
    from consumer.admin.replay.slicing import SlicePlan, SliceWish
    from consumer.aws.clients import Aws

INTERRUPTED = 130


def replay(target: Target, options: dict[str, Any]) -> None:
    """Plan, print, and with --execute carry out; exits with 130 if it was interrupted."""
    from consumer.admin.replay.slicing import refuse_used
    from consumer.aws.clients import Aws
    from consumer.leases import bounded
    from pipeline.stores import open_store

    aws = Aws()
    planned = _planned(target, options, aws)
    dynamodb = aws.client("dynamodb")
    begun = bool(aws.ask("the replay's lease table", lambda: bounded.items(dynamodb, planned.application)))
    refuse_used(
        planned,
        begun=begun,
        holds=lambda url: bool(open_store(url, lambda: aws.client("s3")).list("", limit=1)),
    )
    said = _said(planned, options, begun=begun) | _amount(planned, aws)
    if not options["as_json"]:
        _print(said)
        if options["execute"]:
            output.line(f"after an interruption, or to share the work: {said['command']}")
    if options["execute"]:
        said |= _run(planned, aws)
    if options["as_json"]:
        output.emit("replay.slice", said)
    elif not options["execute"]:
        output.line(f"nothing changed; to read the slice: {said['command']}")
    elif said["finished"]:
        output.line(
            f"done: {counted(said['rows'], 'row')} and {counted(said['dead_letters'], 'dead letter')} by this task"
        )
    else:
        output.line(f"interrupted; to continue: {said['command']}")
    if options["execute"] and not said["finished"]:
        click.get_current_context().exit(INTERRUPTED)


def _planned(target: Target, options: dict[str, Any], aws: Aws) -> SlicePlan:
    from consumer.admin.replay.slicing import plan
    from consumer.aws import shards

    if target.settings is None:
        raise UserError("A slice needs --config FILE: it runs the configuration's model")
    wish = _wish(options)
    kinesis, stream = aws.client("kinesis"), target.stream
    created_s = aws.stream_created_s(stream)
    known = aws.ask(f"stream {stream}", lambda: shards.known(kinesis, stream))
    now = datetime.now(UTC)
    start = min(wish.begin, now).isoformat()
    first = aws.ask(f"stream {stream}", lambda: shards.open_at(kinesis, stream, start))
    return plan(target.settings, created_s, known, sorted(first), wish, now)


def _wish(options: dict[str, Any]) -> SliceWish:
    from consumer.admin.replay.slicing import SliceWish

    if options["begin"] is None or options["end"] is None:
        raise UserError("A slice needs both --from TIME and --to TIME")
    kinds = [sink.partition(":") for sink in options["sinks"]]
    if wrong := [kind for kind, _, name in kinds if kind != "kinesis" or not name]:
        raise UserError(f"--sink {wrong[0]} is not a sink. Write --sink kinesis:NAME, or name a table with --url")
    return SliceWish(
        options["begin"],
        options["end"],
        options["url"],
        tuple(name for _, _, name in kinds),
        options["dead_letter"],
        options["shards"],
        options["rate"],
    )


def _run(planned: SlicePlan, aws: Aws) -> dict[str, Any]:
    from consumer import logs, slice_task
    from consumer.leases import bounded

    on_screen = sys.stderr.isatty()
    logs.configure("WARNING" if on_screen else planned.settings.log.level, planned.settings.log.format)
    with output.progress("records settled") as advance:
        settled = 0

        def tell(passed: int, shards: int, records: int) -> None:
            nonlocal settled
            advance(max(0, records - settled))
            settled = records

        outcome = slice_task.run(planned.settings, planned.bounds, tell)
    cleaned = False
    if outcome.finished:
        dynamodb, application = aws.client("dynamodb"), planned.application
        if not bounded.held_by_others(bounded.items(dynamodb, application), ""):
            bounded.remove_tables(dynamodb, application)
            cleaned = True
    return {
        "executed": True,
        "finished": outcome.finished,
        "rows": outcome.rows,
        "dead_letters": outcome.dead_letters,
        "tables_deleted": cleaned,
    }


def _said(planned: SlicePlan, options: dict[str, Any], *, begun: bool) -> dict[str, Any]:
    """The plan for ``--json``."""
    bounds, settings = planned.bounds, planned.settings
    return {
        "application": planned.application,
        "stream": settings.stream.name,
        "from": _time(bounds.from_ms),
        "to": _time(bounds.to_ms),
        "shards": sorted(bounds.shards) if bounds.shards else None,
        "begins_with": list(planned.first),
        "sinks": [sink.url if sink.type == "parquet" else f"kinesis:{sink.stream}" for sink in settings.sink],
        "dead_letter": settings.dead_letter.url,
        "model": settings.model.version,
        "rate": bounds.rate or None,
        "begun": begun,
        "command": _command(planned, options),
        "executed": False,
        "finished": False,
    }


def _command(planned: SlicePlan, options: dict[str, Any]) -> str:
    """The command that carries out this plan, now or after an interruption, with fixed times: ``2h ago`` would be
    another slice later."""
    words = ["--from", _time(planned.bounds.from_ms), "--to", _time(planned.bounds.to_ms)]
    for name, values in (
        ("--url", [options["url"]]),
        ("--sink", options["sinks"]),
        ("--dead-letter", [options["dead_letter"]]),
        ("--shards", options["shards"]),
        ("--rate", [str(options["rate"]) if options["rate"] else None]),
    ):
        words += [word for value in values if value for word in (name, value)]
    return command_line("replay", *words, "--execute")


def _amount(planned: SlicePlan, aws: Aws) -> dict[str, Any]:
    """How much there is to read, as far as CloudWatch knows, and how long that takes at the given rate."""
    from botocore.exceptions import BotoCoreError, ClientError

    from consumer.aws.shard_metrics import arrived

    bounds, stream = planned.bounds, planned.settings.stream.name
    try:
        found = arrived(aws.client("cloudwatch"), stream, bounds.from_ms / 1000, bounds.to_ms / 1000)
    except (BotoCoreError, ClientError):
        found = None
    if found is None or bounds.shards is not None:
        return {"records_about": None, "bytes_about": None, "seconds_about": None}
    seconds = found.records / bounds.rate if bounds.rate else None
    return {"records_about": round(found.records), "bytes_about": round(found.bytes), "seconds_about": seconds}


def _print(said: dict[str, Any]) -> None:
    shards = ", ".join(said["shards"]) if said["shards"] else f"all, beginning with {', '.join(said['begins_with'])}"
    output.line(
        f"slice of stream {said['stream']}: records that arrived at {said['from']} or later and before {said['to']}"
    )
    output.line(f"shards: {shards}")
    output.line(
        f"model: {said['model']}, at most {said['rate']:g} records/s a task"
        if said["rate"]
        else f"model: {said['model']}"
    )
    output.line(f"rows to: {', '.join(said['sinks'])}; dead letters to: {said['dead_letter']}")
    output.line(_amount_line(said))
    going = (
        "continues where it stopped" if said["begun"] else "creates three DynamoDB tables, and deletes them at the end"
    )
    output.line(f"application of its own: {said['application']}; {going}")


def _amount_line(said: dict[str, Any]) -> str:
    if said["records_about"] is None:
        return "records: unknown"
    amount = f"records: about {said['records_about']:,} ({counted(said['bytes_about'], 'byte')}), in whole minutes"
    return f"{amount}; takes {output.seconds(said['seconds_about'])} in one task" if said["rate"] else amount


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")
