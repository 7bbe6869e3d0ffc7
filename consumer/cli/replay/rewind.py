"""``penstock replay --rewind``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.cli import output
from consumer.cli.options import command_line
from pipeline.errors import PenstockError, UserError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.admin.application import Target
    from consumer.admin.replay.moving import Mover, ReplayPlan, RewindRequest
    from consumer.admin.replay.rewind import Checkpoint
    from consumer.admin.status.snapshot import Snapshot
    from consumer.aws.clients import Aws

LOOK_S = 1.0

NOTED_S = 15.0
"""A worker writes its note every ten seconds."""

FAILOVER_MS = 10_000
"""KCL's default, for applications without a configuration."""


def replay(target: Target, options: dict[str, Any]) -> None:
    """Plan, print, and with --execute carry out."""
    from consumer.admin.replay.carry_out import LeaseTable
    from consumer.admin.replay.moving import Mover, refuse_nothing
    from consumer.aws.clients import Aws

    if target.application is None:
        raise UserError("Also give --application NAME: the KCL application, which is the name of its lease table")
    aws = Aws()
    created_s = aws.stream_created_s(target.stream)
    request = _request(target, options, created_s)
    notes = [] if request.export else _notes(target, options, request, aws)  # a refusal needs no search of the stream
    failover_ms = target.settings.kcl.failover_ms if target.settings else FAILOVER_MS
    table = LeaseTable(aws.client("dynamodb"), target.application, failover_s=failover_ms / 1000, tell=output.note)
    mover = Mover(aws, target.application, target.stream, created_s, table)
    planned = _planned(mover, request, aws, target)
    notes = notes or _notes(target, options, request, aws, planned.read_since)
    plan = _said(target, planned, request, options, notes, failover_ms / 1000)
    said = output.joined(plan, _estimate(planned, request, target, aws))
    said |= _skipped(mover, planned, request, target, aws)
    if not options["as_json"]:
        _print(said)
    refuse_nothing(planned)
    if options["execute"]:
        _execute(mover, request, planned, target, options, said)
    if options["as_json"]:
        output.emit("replay.rewind", said)
    elif not options["execute"]:
        output.line("nothing changed; run again with --execute to move the leases")
    else:
        back = command_line("replay", "--rewind", "--from-file", said["undo"], "--execute")
        output.line(f"done; to put the leases back: {back}")
    if options["execute"] and said["began_elsewhere"]:
        raise PenstockError(_elsewhere(said["began_elsewhere"]))


def _request(target: Target, options: dict[str, Any], created_s: int) -> RewindRequest:
    from consumer.admin.replay import undo
    from consumer.admin.replay.moving import RewindRequest

    given = [name for name in ("to_time", "by", "to_earliest", "to_latest", "from_file") if options[name]]
    if not options["rewind"] or len(given) != 1:
        raise UserError("Give --rewind with one of --to-time, --by, --to-earliest, --to-latest and --from-file")
    if options["to_latest"]:
        return RewindRequest(latest=True)
    if path := options["from_file"]:
        return RewindRequest(export=undo.read(path, target.application or "", target.stream, created_s))
    if options["to_earliest"]:
        return RewindRequest(moment_ms=0)
    moment_s = options["to_time"].timestamp() if options["to_time"] else time.time() - options["by"]
    if moment_s > time.time():
        raise UserError("--to-time is in the future. Give an earlier time, or --to-latest")
    return RewindRequest(moment_ms=round(1000 * moment_s))


def _notes(
    target: Target, options: dict[str, Any], request: RewindRequest, aws: Aws, read_since: Sequence[str] = ()
) -> list[str]:
    from consumer.admin.replay.outputs import notes_of
    from pipeline.stores import open_store

    return notes_of(
        target.settings,
        options["url"],
        goes_back=request.moment_ms is not None,
        forward=request.latest,
        online=options["online"],
        undoes=not request.skips and request.export is not None,
        read_since=read_since,
        holds=lambda url: bool(open_store(url, lambda: aws.client("s3")).list("", limit=1)),
    )


def _estimate(planned: ReplayPlan, request: RewindRequest, target: Target, aws: Aws) -> dict[str, Any]:
    """What is read again: what arrived since the moment, where every shard moves that far."""
    from consumer.admin.estimate import UNCHANGED, Pace, of_the_application, reading_again
    from consumer.admin.observed import arrived_between, pace
    from consumer.aws import shards

    stream = target.stream
    if request.skips:
        return of_the_application(0, 0, Pace(), UNCHANGED).to_dict()
    summary = aws.ask(f"stream {stream}", lambda: shards.summary(aws.client("kinesis"), stream))
    now_ms = round(1000 * time.time())
    oldest_ms = request.moment_ms or now_ms - round(3_600_000 * summary.retention_hours)
    a_day = reading_again(summary.mode, (now_ms - oldest_ms) / 1000)
    known = None if request.export is not None else arrived_between(aws, stream, oldest_ms, now_ms)
    records, size = known or (None, None)
    return of_the_application(records, size, pace(aws, target.application or ""), a_day).to_dict()


def _skipped(mover: Mover, planned: ReplayPlan, request: RewindRequest, target: Target, aws: Aws) -> dict[str, Any]:
    """What --to-latest does not read: at most what arrived since its oldest record. None is unknown."""
    from consumer.admin.observed import arrived_between

    if not request.latest:
        return {"skipped_at_most": 0, "skipped_since": None}
    since_ms = aws.ask(f"stream {target.stream}", lambda: mover.unread_since_ms(planned))
    if since_ms is None:
        return {"skipped_at_most": 0, "skipped_since": None}
    known = arrived_between(aws, target.stream, since_ms, round(1000 * time.time()))
    return {"skipped_at_most": known[0] if known else None, "skipped_since": _time(since_ms)}


def _planned(mover: Mover, request: RewindRequest, aws: Aws, target: Target) -> ReplayPlan:
    with output.progress("shards looked through") as advance:
        planned: ReplayPlan = aws.ask(f"application {target.application}", lambda: mover.plan(request, advance))
    return planned


def _execute(
    mover: Mover,
    request: RewindRequest,
    planned: ReplayPlan,
    target: Target,
    options: dict[str, Any],
    said: dict[str, Any],
) -> None:
    path = options["undo"] or Path(
        f"penstock-undo-{target.application}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}.json"
    )
    done = mover.execute(request, planned, path, online=options["online"])
    said |= {"executed": True, "undo": str(path), **_leases(done)}
    if options["online"]:
        said |= _begun(done, target, said)


def _begun(done: ReplayPlan, target: Target, said: dict[str, Any]) -> dict[str, Any]:
    """Wait until workers have begun to read again, and compare where they began with where they should."""
    from consumer.admin.replay.rewind_check import RewindWatch
    from consumer.admin.status.observe import Observer
    from consumer.aws.clients import Aws

    aws, watch, since_s = Aws(), RewindWatch(done.moves.moves), time.time()
    observer = Observer(aws.client("dynamodb"), aws.client("kinesis"), target.stream, target.application or "")
    deadline = time.monotonic() + 2 * said["moving_takes_s"] + NOTED_S
    with output.progress("shards that began at the target", len(done.moves.moves)) as advance:
        right = 0
        while True:
            look = aws.ask(f"application {target.application}", observer.look)
            found = watch.look(_began(look, since_s))
            advance(len(found.right) - right)
            right = len(found.right)
            if found.all_right or time.monotonic() > deadline:
                break
            time.sleep(LOOK_S)
    output.note(f"{counted(len(found.right), 'shard')} began at the target")
    for shard_id in found.unknown:
        output.note(f"{shard_id}: no worker has said yet where it began; see `penstock status`")
    return {"began_right": list(found.right), "began_elsewhere": found.wrong, "began_unknown": list(found.unknown)}


def _began(look: Snapshot, since_s: float) -> dict[str, str]:
    """By shard, where its session began, as workers have reported since."""
    found = {}
    for lease in look.state.leases:
        said = look.of_shard(lease)
        if said is not None and said.at_s >= since_s:
            found[lease.shard_id] = str(said.shard(lease.shard_id).get("began_after") or "")
    return found


def _elsewhere(wrong: dict[str, str]) -> str:
    shards = ", ".join(f"{shard_id} after {at}" for shard_id, at in sorted(wrong.items()))
    return (
        f"began elsewhere than at the target: {shards}. Unless a shard changed its worker since, the records between "
        "are not read again: compare with the plan, and run the same command again"
    )


def _said(
    target: Target,
    planned: ReplayPlan,
    request: RewindRequest,
    options: dict[str, Any],
    notes: list[str],
    failover_s: float,
) -> dict[str, Any]:
    """Return the plan as ``--json`` prints it."""
    return {
        "application": target.application,
        "stream": target.stream,
        "to": _to(request),
        "owners": planned.owners,
        **_leases(planned),
        "sinks": notes,
        "skips": request.latest,
        "calls": _calls(planned, online=options["online"]),
        "moving_takes_s": _seconds(planned, failover_s, online=options["online"]),
        "online": options["online"],
        "executed": False,
        "undo": None,
        "began_right": [],
        "began_elsewhere": {},
        "began_unknown": [],
    }


def _leases(planned: ReplayPlan) -> dict[str, Any]:
    return {
        "moves": [_move(planned, move.shard_id, move.now, move.then) for move in planned.moves.moves],
        "stays": [{"shard_id": stay.shard_id, "now": _at(stay.now), "why": stay.why} for stay in planned.moves.stays],
        "removes": list(planned.removes),
    }


def _move(planned: ReplayPlan, shard_id: str, now: Checkpoint | None, then: Checkpoint) -> dict[str, Any]:
    facts = planned.facts.get(shard_id)
    first_ms = facts.first_from_ms if facts is not None else None
    return {
        "shard_id": shard_id,
        "now": "no lease" if now is None else _at(now),
        "then": _at(then),
        "first_record_arrived": None if first_ms is None else _time(first_ms),
    }


def _calls(planned: ReplayPlan, *, online: bool) -> list[str]:
    writes = len(planned.moves.moves) + len(planned.removes)
    transactions = -(-writes // 100)
    if not online:
        return [f"dynamodb:TransactWriteItems: move {counted(writes, 'lease')} in {counted(transactions, 'call')}"]
    return [
        "dynamodb:TransactWriteItems: park every lease that is not at its shard's end",
        "dynamodb:TransactWriteItems every 2 s: keep them parked until their workers have noticed",
        f"dynamodb:TransactWriteItems: move {counted(writes, 'lease')}",
    ]


def _seconds(planned: ReplayPlan, failover_s: float, *, online: bool) -> float:
    if online:
        return failover_s + 1
    return failover_s + 2 if planned.owners else 0


def _print(said: dict[str, Any]) -> None:
    output.line(f"application {said['application']} on stream {said['stream']}, to {said['to']}")
    rows = [
        (each["shard_id"], each["now"], each["then"], each["first_record_arrived"] or "-") for each in said["moves"]
    ]
    rows += [(each["shard_id"], each["now"], "stays", each["why"]) for each in said["stays"]]
    rows += [(shard_id, "made by the change", "goes away", "-") for shard_id in said["removes"]]
    output.table(("shard", "now", "then", "from the record that arrived"), rows)
    for line in said["sinks"]:
        output.line(line)
    for owner in said["owners"] if not said["online"] else ():
        output.line(f"worker {owner} has leases. Stop it first, or give --online")
    for line in said["calls"]:
        output.line(line)
    output.line(
        f"takes {output.seconds(said['moving_takes_s'])}; the shards are read again after a fail-over at the latest"
    )
    if said["skips"]:
        output.line(_skips(said["skipped_at_most"], said["skipped_since"]))
        return
    for line in output.estimate(said):
        output.line(f"to read again: {line}")


def _skips(at_most: int | None, since: str | None) -> str:
    if since is None:
        return "skipped, never read: no record; every shard is read to its end"
    records = f"unknown records, all that arrived since {since}"
    if at_most is not None:
        records = f"at most {counted(at_most, 'record')}, about as many as arrived since {since}"
    return f"skipped, never read: {records} and are not read yet"


def _to(request: RewindRequest) -> str:
    if request.latest:
        return "the end of every shard"
    if request.export is not None:
        return f"what it was at {request.export.taken_at}"
    return "the oldest record" if not request.moment_ms else _time(request.moment_ms)


def _at(checkpoint: Checkpoint | None) -> str:
    """A checkpoint for people. The sequence number is enough for a position, since it is behind all of the record."""
    if checkpoint is None:
        return "no lease"
    return checkpoint if isinstance(checkpoint, str) else f"after {checkpoint.sequence}"


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")
