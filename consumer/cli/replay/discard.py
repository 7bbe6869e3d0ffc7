"""``penstock replay --discard``: gives up a slice that is not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.cli import output
from pipeline.errors import NothingToDo, RefusedError

if TYPE_CHECKING:
    from consumer.admin.replay.slicing import SlicePlan
    from consumer.aws.clients import Aws


def discard(planned: SlicePlan, aws: Aws, *, execute: bool, as_json: bool) -> None:
    """Delete the tables of the slice's application. What it has written stays.

    :raises NothingToDo: there are none. :raises RefusedError: a task still reads the slice.
    """
    from consumer.admin.replay.carry_out import LeaseTable
    from consumer.leases import bounded
    from consumer.leases.tables import made_at

    dynamodb, name = aws.client("dynamodb"), planned.application
    if aws.ask(f"lease table {name}", lambda: made_at(dynamodb, name)) is None:
        raise NothingToDo(f"replay {name} has no tables: it has not begun, or it has ended")
    if not as_json:
        output.line(f"deletes the tables of replay {name} in DynamoDB; what it has written stays")
    if execute:
        table = LeaseTable(dynamodb, name, failover_s=planned.settings.kcl.failover_ms / 1000, tell=output.note)
        try:
            table.must_be_idle(table.read())
        except RefusedError:
            raise RefusedError(f"a task still reads the slice of replay {name}. Stop it first") from None
        aws.ask(f"lease table {name}", lambda: bounded.remove_tables(dynamodb, name))
    if as_json:
        output.emit("replay.discard", {"application": name, "executed": execute})
    else:
        output.line("done" if execute else "nothing changed; run again with --execute to delete them")
