"""``penstock replay --from TIME --to TIME``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from consumer.cli import output
from consumer.cli.options import command_line, rate_text
from pipeline.errors import UserError, counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.admin.application import Target
    from consumer.admin.replay.slicing import SlicePlan, SliceRequest
    from consumer.aws.clients import Aws
    from consumer.slice_task import SliceProgress

INTERRUPTED = 130


def replay(target: Target, options: dict[str, Any]) -> None:
    """Plan, print, and with --execute carry out; exits with 130 if it was interrupted."""
    from consumer.aws.clients import Aws
    from consumer.cli.replay.discard import discard

    aws = Aws()
    planned = _planned(target, options, aws)
    if options["discard"]:
        discard(planned, aws, execute=options["execute"], as_json=options["as_json"])
    else:
        _read(planned, target, options, aws)


def _read(planned: SlicePlan, target: Target, options: dict[str, Any], aws: Aws) -> None:
    from consumer.admin.replay.slicing import refuse_changed, refuse_used
    from consumer.leases import bounded
    from pipeline.stores import open_store

    dynamodb = aws.client("dynamodb")
    begun = bool(aws.ask("the replay's lease table", lambda: bounded.items(dynamodb, planned.application)))

    def holds(url: str) -> bool:
        return bool(open_store(url, lambda: aws.client("s3")).list("", limit=1))

    refuse_used(planned, begun=begun, holds=holds)
    refuse_changed(planned, aws.ask("the replay's note", lambda: bounded.noted(dynamodb, planned.application)))
    _check_streams(planned, aws)
    said = output.joined(_said(planned, options, begun=begun), _estimate(planned, target, aws))
    if not options["as_json"]:
        _print(said)
        if options["execute"]:
            output.line(f"to give it up, and delete its tables: {said['discard']}")
            output.line(f"after an interruption, or to share the work: {said['command']}")
    if options["execute"]:
        _note(planned, aws)
        try:
            said |= _run(planned, aws)
        except Exception:
            _clean_up(planned, aws, said, holds)
            raise
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


def _note(planned: SlicePlan, aws: Aws) -> None:
    """Make the replay's tables, and note what it is made of, so that nothing else continues it."""
    from consumer.admin.replay.slicing import made_of, refuse_changed
    from consumer.leases import bounded
    from consumer.leases.tables import make_tables, shaped

    dynamodb, name = aws.client("dynamodb"), planned.application
    if not shaped(planned.settings.kcl.properties):  # else KCL makes them
        aws.ask(f"lease table {name}", lambda: make_tables(dynamodb, name))
        refuse_changed(planned, aws.ask(f"lease table {name}", lambda: bounded.note(dynamodb, name, made_of(planned))))


def _clean_up(planned: SlicePlan, aws: Aws, said: dict[str, Any], holds: Callable[[str], bool]) -> None:
    """After an error: delete the tables if nothing was read, or say what does."""
    from consumer.leases import bounded

    dynamodb, name = aws.client("dynamodb"), planned.application
    urls = [sink.url for sink in planned.settings.sink if sink.type == "parquet"]
    untouched = not said["begun"] and bounded.is_untouched(bounded.items(dynamodb, name))
    if untouched and not any(holds(url) for url in urls):
        bounded.remove_tables(dynamodb, name)
        output.note("nothing was read; the tables of the replay are deleted")
    else:
        output.note(f"to continue: {said['command']}; to give it up, and delete its tables: {said['discard']}")


def _planned(target: Target, options: dict[str, Any], aws: Aws) -> SlicePlan:
    from consumer.admin.replay.slicing import plan
    from consumer.aws import shards

    if target.settings is None:
        raise UserError("A slice needs --config FILE: it runs the configuration's model")
    request = _request(options)
    kinesis, stream = aws.client("kinesis"), target.stream
    created_s = aws.stream_created_s(stream)
    known = aws.ask(f"stream {stream}", lambda: shards.known(kinesis, stream))
    now = datetime.now(UTC)
    start = min(request.begin, now).isoformat()
    first = aws.ask(f"stream {stream}", lambda: shards.open_at(kinesis, stream, start))
    return plan(target.settings, created_s, known, sorted(first), request, now)


def _request(options: dict[str, Any]) -> SliceRequest:
    from consumer.admin.replay.slicing import SliceRequest

    if options["begin"] is None or options["end"] is None:
        raise UserError("A slice needs both --from TIME and --to TIME")
    kinds = [sink.partition(":") for sink in options["sinks"]]
    if wrong := [kind for kind, _, name in kinds if kind != "kinesis" or not name]:
        raise UserError(f"--sink {wrong[0]} is not a sink. Write --sink kinesis:NAME, or name a table with --url")
    return SliceRequest(
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
    with output.progress("percent of the slice read", 100) as advance:
        told: float | None = None

        def tell(now: SliceProgress) -> None:
            nonlocal told
            if now.share is not None:
                advance(max(0.0, 100 * now.share - (told or 0.0)), before=told is None)
                told = max(100 * now.share, told or 0.0)

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
    """Return the plan as ``--json`` prints it."""
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
        "command": _command(planned, options, "--execute"),
        "discard": _command(planned, options, "--discard", "--execute"),
        "executed": False,
        "finished": False,
    }


def _command(planned: SlicePlan, options: dict[str, Any], *ends: str) -> str:
    """The command that carries out this plan, now or after an interruption, with fixed times: ``2h ago`` would be
    another slice later."""
    words = ["--from", _time(planned.bounds.from_ms), "--to", _time(planned.bounds.to_ms)]
    for name, values in (
        ("--url", [options["url"]]),
        ("--sink", options["sinks"]),
        ("--dead-letter", [options["dead_letter"]]),
        ("--shards", options["shards"]),
        ("--rate", [rate_text(options["rate"]) if options["rate"] else None]),
    ):
        words += [word for value in values if value for word in (name, value)]
    return command_line("replay", *words, *ends)


def _check_streams(planned: SlicePlan, aws: Aws) -> None:
    """:raises UserError: a stream for the rows does not exist, or takes no records now."""
    from consumer.aws import shards

    kinesis = aws.client("kinesis")
    for sink in planned.settings.sink:
        if sink.type == "kinesis":
            found = aws.ask(f"--sink kinesis:{sink.stream}", lambda name=sink.stream: shards.summary(kinesis, name))
            if found.status not in ("ACTIVE", "UPDATING"):
                raise UserError(f"--sink kinesis:{sink.stream}: the stream is {found.status}. Wait until it is ACTIVE")


def _estimate(planned: SlicePlan, target: Target, aws: Aws) -> dict[str, Any]:
    """What the stream no longer has; how much there is to read, as far as CloudWatch knows, and how long it takes."""
    from consumer.admin.estimate import of_one_task, reading_again
    from consumer.admin.observed import arrived_between, pace
    from consumer.aws import shards

    bounds, stream = planned.bounds, planned.settings.stream.name
    summary = aws.ask(f"stream {stream}", lambda: shards.summary(aws.client("kinesis"), stream))
    a_day = reading_again(summary.mode, time.time() - bounds.from_ms / 1000)
    found = None if bounds.shards is not None else arrived_between(aws, stream, bounds.from_ms, bounds.to_ms)
    records, size = found or (None, None)
    oldest_ms = round(1000 * (time.time() - 3_600 * summary.retention_hours))
    gone_ms = oldest_ms if bounds.from_ms < oldest_ms and 1000 * summary.created_s < oldest_ms else None
    estimate = of_one_task(records, size, bounds.rate or None, pace(aws, target.application or ""), a_day)
    return {"gone_before": None if gone_ms is None else _time(gone_ms), **estimate.to_dict()}


def _print(said: dict[str, Any]) -> None:
    shards = ", ".join(said["shards"]) if said["shards"] else f"all, beginning with {', '.join(said['begins_with'])}"
    output.line(
        f"slice of stream {said['stream']}: records that arrived at {said['from']} or later and before {said['to']}"
    )
    if said["gone_before"]:
        output.line(f"records that arrived before {said['gone_before']} are gone: the stream keeps none that are older")
    output.line(f"shards: {shards}")
    output.line(
        f"model: {said['model']}, at most {rate_text(said['rate'])} records/s a task"
        if said["rate"]
        else f"model: {said['model']}"
    )
    output.line(f"rows to: {', '.join(said['sinks'])}; dead letters to: {said['dead_letter']}")
    for line in output.estimate(said):
        output.line(line)
    going = (
        "continues where it stopped" if said["begun"] else "creates three DynamoDB tables, and deletes them at the end"
    )
    output.line(f"application of its own: {said['application']}; {going}")


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")
