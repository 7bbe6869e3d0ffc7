"""``penstock shards skip``: the record shown, the plan, the note on the lease."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from consumer.admin.application import Target
from consumer.admin.shards import skip as skips
from consumer.admin.shards.changes import Refusal
from consumer.admin.shards.skip import SkipPlan
from consumer.aws.clients import Aws
from consumer.aws.record_lines import fields_of, line_of
from consumer.cli import output
from consumer.cli.options import command_line, only_with
from consumer.cli.shards.change import refuse
from consumer.leases.state import read_state
from consumer.poison.notes import LeaseNotes
from pipeline.errors import PenstockError, RefusedError, UserError, counted, cut
from pipeline.record import LAST_SUB, Position

LOOK_S = 1.0

LINE = 2_000
"""Characters of the record that are shown; ``--json`` has all of it."""


def skip_record(
    *,
    target: Target,
    shard: str,
    sequence: str | None,
    sub: int | None,
    why: str,
    withdraw: bool,
    execute: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Plan, print, and with ``execute`` write the note on the lease."""
    only_with("timeout", "wait")
    at = _position(sequence, sub)
    aws = Aws()
    if withdraw:
        _withdraw(aws, target, shard, at, execute=execute, as_json=as_json)
        return
    if at is None:
        raise UserError("--past is missing. Give the sequence number of the record")
    planned = _plan(aws, target, shard, at, why)
    if not as_json:
        _print(planned)
    if execute:
        notes = LeaseNotes(lambda: aws.client("dynamodb"), target.application or "")
        if not aws.ask(f"lease table {target.application}", lambda: skips.carry_out(notes, planned)):
            raise RefusedError(f"the lease of {shard} has another owner now. Nothing was written; try again")
        if wait:
            _follow(aws, notes, shard, at, timeout)
    if as_json:
        output.emit("shards.skip", {**_said(planned), "executed": execute})
    elif execute:
        output.line("noted; the next worker that gets the shard skips the record")
    else:
        output.line("nothing changed; run again with --execute to carry this out")


def _position(sequence: str | None, sub: int | None) -> Position | None:
    if sequence is None:
        return None
    if not (sequence.isascii() and sequence.isdecimal()):
        raise UserError(f"--past {sequence} is not a sequence number. Give its decimal digits")
    return Position(int(sequence), LAST_SUB if sub is None else sub)


def _withdraw(aws: Aws, target: Target, shard: str, at: Position | None, *, execute: bool, as_json: bool) -> None:
    table = f"lease table {target.application}"
    notes = LeaseNotes(lambda: aws.client("dynamodb"), target.application or "")
    noted = aws.ask(table, lambda: notes.read(shard))
    planned = skips.plan_withdrawal(noted, shard, at)
    if isinstance(planned, Refusal):
        refuse(planned)
    if not as_json:
        for each in planned:
            output.line(f"{shard}: the skip of record {each} ({each.why}) is withdrawn; it is processed as usual")
        output.line(f"call 1: UpdateItem: the note on the lease of {shard}, if it has not changed. A day: unchanged")
    if execute and not aws.ask(table, lambda: skips.withdraw(notes, noted, planned)):
        raise RefusedError(f"the note on the lease of {shard} has changed. Nothing was written; try again")
    if as_json:
        withdrawn = [{"record": str(each), "why": each.why} for each in planned]
        output.emit("shards.skip", {"shard_id": shard, "withdrawn": withdrawn, "executed": execute})
    else:
        output.line("done" if execute else "nothing changed; run again with --execute to carry this out")


def _plan(aws: Aws, target: Target, shard_id: str, at: Position, why: str) -> SkipPlan:
    application = target.application or ""
    kinesis, dynamodb = aws.client("kinesis"), aws.client("dynamodb")
    state = aws.ask(f"lease table {application}", lambda: read_state(dynamodb, application))
    if not state.leases:
        raise UserError(f'there is no lease in table "{application}". Check --application, and that a worker has run')
    if state.binding is None:
        raise RefusedError(
            f'no Penstock worker has used lease table "{application}", and other KCL workers ignore the note that '
            "this command writes. Nothing was written"
        )
    if state.binding.stream != target.stream:
        raise UserError(f'lease table "{application}" belongs to {state.binding}. Check --stream and --application')
    notes = LeaseNotes(lambda: dynamodb, application)
    noted = aws.ask(f"lease table {application}", lambda: notes.read(shard_id))
    what = f"shard {shard_id} of stream {target.stream}"
    found = aws.ask(what, lambda: skips.find(kinesis, target.stream, shard_id, at.sequence)) if noted else None
    planned = skips.plan_skip(noted, found, shard_id, at, why)
    if isinstance(planned, Refusal):
        refuse(planned)
    start = planned.noted.lease.checkpoint
    if start is not None:
        between = aws.ask(what, lambda: skips.between(kinesis, target.stream, shard_id, start.sequence, at.sequence))
        planned = replace(planned, between=between)
    return planned


def _said(planned: SkipPlan) -> dict[str, Any]:
    lease, at = planned.noted.lease, planned.skip.at
    return {
        "shard_id": lease.shard_id,
        "sequence_number": str(at.sequence),
        "sub_sequence_number": None if at.sub == LAST_SUB else at.sub,
        "why": planned.skip.why,
        "checkpoint": str(lease.checkpoint) if lease.checkpoint else lease.sentinel,
        "records_before_it": planned.between,
        "owner": lease.owner or None,
        "user_records": planned.found.users,
        "records": [dict(fields_of(record)) for record in skips.shown(planned.found, at.sub)],
    }


def _print(planned: SkipPlan) -> None:
    said = _said(planned)
    users = planned.found.users
    which = "" if said["sub_sequence_number"] is None else f", user record {planned.skip.at.sub}"
    output.line(f"record: {said['sequence_number']}{which}, {counted(len(planned.found.raw['Data']), 'byte')}")
    if users is not None and not which:
        output.line(f"it is an aggregate of {counted(users, 'user record')}; those without a row will not get one")
    for record in skips.shown(planned.found, planned.skip.at.sub):
        output.line(f"  {cut(line_of(record).decode(), LINE)}")
    before = "an unknown number of records" if planned.between is None else counted(planned.between, "record")
    output.line(f"checkpoint now: {said['checkpoint']}; {before} between it and this one: processed as usual")
    owner = f"taken from {planned.owner}" if planned.owner else "free already"
    output.line(f"call 1: UpdateItem: the lease of {said['shard_id']}, {owner}, gets a note to skip the record")
    output.line("a day: unchanged")
    back = command_line("shards skip", said["shard_id"], "--past", said["sequence_number"], "--withdraw", "--execute")
    output.line(f"undo: only until a worker has carried it out: {back}")
    output.line("then, by the next worker that has the shard: a dead letter of the kind skipped, and the checkpoint")


def _follow(aws: Aws, notes: LeaseNotes, shard_id: str, at: Position, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with output.progress(f"waiting for a worker to move past the record in {shard_id}"):
        while True:
            noted = aws.ask(f"the lease of {shard_id}", lambda: notes.read(shard_id))
            if noted is None or noted.lease.ended:
                return
            if noted.lease.checkpoint is not None and noted.lease.checkpoint.sequence >= at.sequence:
                return
            if time.monotonic() > deadline:
                raise PenstockError(
                    f"the checkpoint of {shard_id} is not past the record yet. The note stays; see the workers' logs"
                )
            time.sleep(LOOK_S)
