"""The output of ``penstock leases``: leases, and plans that change them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consumer.admin import restore_leases
from consumer.admin.application import Target
from consumer.admin.release_lease import FAILOVER_S, Release, carry_out, plan
from consumer.admin.reset_leases import ResetPlan
from consumer.aws.clients import Aws
from consumer.cli import output
from consumer.leases.binding import at
from consumer.leases.leases import Lease, lease_of
from consumer.leases.state import NO_TABLES, ApplicationState, read_state
from consumer.poison.doubt import parsed
from consumer.poison.notes import NOTE
from pipeline.errors import UserError, counted
from pipeline.escape import harmless

COLUMNS = ("shard", "owner", "position", "counter", "switches", "KB/s", "parents", "remarks")
RIGHT = ("counter", "switches", "KB/s")


def show_all(target: Target, *, as_json: bool) -> None:
    """Print every lease; those of shards that are read to the end come last."""
    state = _state(Aws(), target)
    leases = sorted(state.leases, key=lambda lease: (lease.ended, lease.shard_id))
    if as_json:
        output.emit("leases.list", harmless({**_about(state), "leases": [plain(lease) for lease in leases]}))
        return
    migration = f", migration {state.migration.table}" if state.migration.table else ""
    whose = str(state.binding) if state.binding else "not bound to a stream"
    output.line(f'application "{state.application}", {whose}; {state.layout}{migration}')
    output.line(f"{counted(len(leases), 'lease')}, leader {state.leader.worker if state.leader else 'none'}")
    output.line("")
    output.table(COLUMNS, [_row(lease) for lease in leases], right=RIGHT)


def show_one(target: Target, shard_id: str, *, as_json: bool) -> None:
    """Print one lease with all of its attributes."""
    state = _state(Aws(), target)
    lease = state.lease(shard_id)
    if lease is None:
        raise UserError(f'there is no lease of "{shard_id}" in table "{state.application}". See `penstock leases list`')
    raw = {name: _value(typed) for name, typed in sorted(lease.raw.items())}
    if as_json:
        output.emit("leases.show", harmless({**_about(state), "lease": plain(lease), "attributes": raw}))
    else:
        for each in _skips(lease):
            output.line(f"skip of record {each} pending")
        output.table(("attribute", "value"), [(name, _text(value)) for name, value in raw.items()])


def release(target: Target, shard_id: str, *, execute: bool, as_json: bool) -> None:
    """Plan, print, and with ``execute`` free the lease."""
    aws = Aws()
    failover_s = target.settings.kcl.failover_ms / 1000 if target.settings is not None else FAILOVER_S
    state = _state(aws, target)
    planned = plan(state, shard_id, time.time(), failover_s)
    if not as_json:
        for line in release_lines(planned):
            output.line(line)
    if execute:
        dynamodb = aws.client("dynamodb")
        aws.ask(f"lease table {state.application}", lambda: carry_out(dynamodb, state.application, planned))
    if as_json:
        said = {
            "shard_id": shard_id,
            "owner": planned.lease.owner,
            "position": _position(planned.lease),
            "leader": planned.leader,
            "owner_notices_within_s": planned.noticed_s,
            "assigned_within_s": planned.assigned_s,
        }
        output.emit("leases.release", harmless({**_about(state), **said, "executed": execute}))
    else:
        output.line("done: the lease is free" if execute else "nothing changed; run again with --execute to free it")


def release_lines(planned: Release) -> list[str]:
    """The lease before and after, and what happens next."""
    lease = planned.lease
    drops = f"{lease.owner} drops the shard within {planned.noticed_s:.0f} s"
    gives = f"leader {planned.leader} gives it to the worker with the least load within {planned.assigned_s:.0f} s"
    return [
        f"{lease.shard_id}: owner {lease.owner} → none; position {_position(lease)} stays",
        "one call: UpdateItem, if owner and counter have not changed",
        f"next: {drops}; {gives}, which may be the same one",
        "records after the position are processed again: how many is unknown",
        "a day: unchanged",
    ]


def reset_plan(planned: ResetPlan, target: Target, created_s: int) -> dict[str, Any]:
    """What a reset deletes, and where the application starts afterwards."""
    found: dict[str, Any] = harmless(
        {
            "application": planned.application,
            "bound_to": str(planned.bound) if planned.bound else None,
            "leases": [
                {"shard_id": lease.shard_id, "at": _position(lease), "owner": lease.holder} for lease in planned.leases
            ],
            "restarts_on": f'stream "{target.stream}", created {at(created_s)}',
            "start": target.settings.stream.start if target.settings is not None else None,
            "undo": None,
        }
    )
    return found


def print_reset(said: Mapping[str, Any]) -> None:
    """The plan of a reset, for people."""
    output.line(f'lease table "{said["application"]}", {said["bound_to"] or "not bound to a stream"}. To delete:')
    for lease in said["leases"]:
        owner = f"  (last held by {lease['owner']})" if lease["owner"] else ""
        output.line(f"  {lease['shard_id']}  {lease['at']}{owner}")
    if not said["leases"]:
        output.line("  no lease")
    start = said["start"] or "stream.start of its configuration"
    output.line(f"the application then starts again on {said['restarts_on']}, at {start}")
    output.line("calls: DeleteItem for each, if it has not changed. A day: unchanged")


def write_undo(planned: ResetPlan, path: Path | None) -> Path:
    """Write what a reset deletes, unless an interrupted run of it has written that. Returns the file's path."""
    deleted = restore_leases.deleted_by(planned)
    paths = [path] if path else sorted(Path().glob(f"penstock-undo-{planned.application}-*.json"))
    if (begun := restore_leases.begun(paths, deleted)) is not None:
        output.note(f"an interrupted run wrote the undo file {begun}, which is kept")
        return begun
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    file = path or Path(f"penstock-undo-{planned.application}-{moment}.json")
    restore_leases.write(file, deleted)
    return file


def restore(target: Target, file: Path, *, execute: bool, as_json: bool) -> None:
    """Plan, print, and with ``execute`` put the leases back."""
    aws, deleted = Aws(), restore_leases.read(file)
    stream = target.stream, aws.stream_created_s(target.stream)
    state = _state(aws, target)
    planned = restore_leases.plan(deleted, state, stream, time.time())
    leases = [lease_of(item) for item in planned.items]
    if not as_json:
        for lease in leases:
            output.line(f"{lease.shard_id}: no lease → {_position(lease)}, without an owner")
        if planned.binding is not None:
            output.line(f"the application belongs to {planned.binding} again")
        output.line("calls: PutItem for each, if there is none. A day: unchanged")
    if execute:
        dynamodb = aws.client("dynamodb")
        aws.ask(f"lease table {state.application}", lambda: restore_leases.carry_out(dynamodb, planned))
    if as_json:
        said = {"leases": [{"shard_id": lease.shard_id, "position": _position(lease)} for lease in leases]}
        output.emit("leases.restore", harmless({**_about(state), **said, "executed": execute}))
    else:
        output.line("done" if execute else "nothing changed; run again with --execute to put them back")


def plain(lease: Lease) -> dict[str, Any]:
    """Return a lease as ``--json`` prints it."""
    return {
        "shard_id": lease.shard_id,
        "owner": lease.owner or None,
        "drained_by": lease.draining_owner or None,
        "counter": lease.counter,
        "position": _position(lease),
        "ended": lease.ended,
        "switches": lease.switches,
        "pending_checkpoint": lease.pending or None,
        "pending_skips": _skips(lease),
        "throughput_kbps": lease.throughput_kbps,
        "parents": list(lease.parents),
        "children": list(lease.children),
        "hash_keys": list(lease.hash_keys) if any(lease.hash_keys) else None,
    }


def _state(aws: Aws, target: Target) -> ApplicationState:
    application = target.application or ""
    state: ApplicationState = aws.ask(
        f"lease table {application}", lambda: read_state(aws.client("dynamodb"), application)
    )
    if state.layout == NO_TABLES:
        raise UserError(
            f'there is no lease table "{application}". Check --application, AWS_REGION and AWS_ENDPOINT_URL'
        )
    return state


def _about(state: ApplicationState) -> dict[str, Any]:
    return {
        "application": state.application,
        "stream": state.binding.stream if state.binding else None,
        "layout": state.layout,
        "migration": state.migration.table,
        "leader": state.leader.worker if state.leader else None,
    }


def _row(lease: Lease) -> tuple[object, ...]:
    remarks = [f"{lease.draining_owner} drains it for {lease.owner}"] if lease.draining_owner else []
    remarks += [f"checkpoint prepared at {lease.pending}"] if lease.pending else []
    remarks += [f"skip of record {each} pending" for each in _skips(lease)]
    return (
        lease.shard_id,
        lease.owner or "none",
        _position(lease),
        lease.counter,
        lease.switches,
        lease.throughput_kbps,
        ", ".join(lease.parents),
        "; ".join(remarks),
    )


def _skips(lease: Lease) -> list[str]:
    """The records that an operator skips, which no worker has skipped yet."""
    return [str(each) for each in parsed(lease.raw.get(NOTE, {}).get("S", "")).skips]


def _position(lease: Lease) -> str:
    return str(lease.checkpoint or lease.sentinel)


def _value(typed: Mapping[str, Any]) -> Any:
    """An attribute without DynamoDB's type; numbers as they are written."""
    ((kind, value),) = typed.items()
    if kind == "M":
        return {name: _value(each) for name, each in value.items()}
    if kind == "L":
        return [_value(each) for each in value]
    return sorted(value) if kind in ("SS", "NS") else value


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
