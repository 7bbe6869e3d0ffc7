"""Undoes a reset: writes the deleted leases to a file, and restores them from it.

A restored lease gets a counter that it never had: the time in seconds, or more than it had before. A worker that was
frozen may still hold the old lease, and its writes are conditional on the counter. The lease has no owner, so the
leader gives it to a worker. All calls block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.admin import undo_files
from consumer.admin.reset_leases import ResetPlan
from consumer.leases.binding import Binding, bound_again
from consumer.leases.leases import Lease, lease_of
from consumer.leases.state import NO_TABLES, ApplicationState
from consumer.leases.tables import Item
from pipeline.errors import NothingToDo, RefusedError, UserError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SCHEMA = "penstock.leases.undo/1"

LEFT_OUT = ("leaseOwner", "checkpointOwner")

MORE = 100
"""A restored counter is higher than the old one by at least this much."""


@dataclass(frozen=True, slots=True)
class DeletedLeases:
    """What a reset deleted: the items of the leases, and the binding; None if there was none."""

    application: str
    leases: tuple[Item, ...]
    binding: Binding | None


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Write those of ``items`` whose lease does not exist, then ``binding``."""

    application: str
    items: tuple[Item, ...]
    binding: Binding | None


def deleted_by(planned: ResetPlan) -> DeletedLeases:
    """Return the items that this reset deletes."""
    return DeletedLeases(planned.application, tuple(dict(lease.raw) for lease in planned.leases), planned.bound)


def begun(paths: Iterable[Path], deleted: DeletedLeases) -> Path | None:
    """The first file that an interrupted run of this reset wrote: it has the leases that are left, and the others."""
    for path in paths:
        try:
            found = read(path)
        except UserError:
            continue
        if continued(found, deleted):
            return path
    return None


def continued(found: DeletedLeases, deleted: DeletedLeases) -> bool:
    """Whether a file's reset was interrupted, and what is left to delete is in the file. Pure."""
    there = {each.shard_id: each for each in map(lease_of, found.leases)}
    same = all(_same_place(each, there.get(each.shard_id)) for each in map(lease_of, deleted.leases))
    return same and (found.application, found.binding) == (deleted.application, deleted.binding)


def write(path: Path, deleted: DeletedLeases) -> None:
    """Write the undo file. Raises ``UserError`` if the file exists or cannot be written."""
    bound = deleted.binding
    said = {
        "schema": SCHEMA,
        "application": deleted.application,
        "binding": None if bound is None else [bound.stream, bound.stream_created_s, bound.start, bound.lease_table],
        "leases": deleted.leases,
    }
    undo_files.write(path, said)


def read(path: Path) -> DeletedLeases:
    """Read an undo file. Raises ``UserError`` if it is not one."""
    return undo_files.read(path, SCHEMA, _deleted, command="penstock leases reset")


def _deleted(said: Mapping[str, Any]) -> DeletedLeases:
    bound = said["binding"]
    leases = tuple(dict(item) for item in said["leases"])
    for item in leases:
        lease_of(item)
    return DeletedLeases(str(said["application"]), leases, None if bound is None else Binding(*bound))


def plan(deleted: DeletedLeases, state: ApplicationState, stream: tuple[str, int], now_s: float) -> RestorePlan:
    """Plan which leases to restore. ``stream``: its name and creation time. Pure.

    :raises RefusedError: the file is of another application or stream, or the application has started again since.
    :raises NothingToDo: all leases of the file exist.
    """
    if deleted.application != state.application:
        raise RefusedError(f"the file is of application {deleted.application}, not of {state.application}")
    if state.layout == NO_TABLES:
        raise RefusedError(f'there is no lease table "{state.application}". Start a worker once to create it')
    bound = deleted.binding
    if bound is not None and (bound.stream, bound.stream_created_s) != stream:
        raise RefusedError(
            f"the file is of {bound}, and the stream now is another one: the positions in the file are not valid for it"
        )
    before = {each.shard_id: each for each in map(lease_of, deleted.leases)}
    if begun := [lease.shard_id for lease in state.leases if not _same_place(lease, before.get(lease.shard_id))]:
        raise RefusedError(
            f"the application has started again since: the lease of {begun[0]} is elsewhere. Stop every worker and "
            "reset again, or use `penstock replay --rewind`"
        )
    there = {lease.shard_id for lease in state.leases}
    items = tuple(_restored_item(item, now_s) for item in deleted.leases if item["leaseKey"]["S"] not in there)
    if not items and (bound is None or state.binding is not None):
        raise NothingToDo("every lease in the file exists")
    return RestorePlan(state.application, items, bound if state.binding is None else None)


def carry_out(dynamodb: DynamoDBClient, planned: RestorePlan) -> int:
    """Restore the leases. Returns their number. A lease that was created in the meantime is not changed.

    The binding is written last, so that an interrupted restore can be run again.
    """
    count = 0
    for item in planned.items:
        try:
            dynamodb.put_item(
                TableName=planned.application, Item=item, ConditionExpression="attribute_not_exists(leaseKey)"
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            continue
        count += 1
    if planned.binding is not None:
        bound_again(dynamodb, planned.application, planned.binding)
    return count


def _same_place(lease: Lease, before: Lease | None) -> bool:
    return before is not None and (lease.checkpoint, lease.sentinel) == (before.checkpoint, before.sentinel)


def _restored_item(item: Item, now_s: float) -> Item:
    counter = max(int(now_s), int(item["leaseCounter"]["N"]) + MORE)
    kept: dict[str, Any] = {name: value for name, value in item.items() if name not in LEFT_OUT}
    return {**kept, "leaseCounter": {"N": str(counter)}}
