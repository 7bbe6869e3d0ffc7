"""Checks of KCL's tables, and of other applications that use them."""

from __future__ import annotations

from collections.abc import Iterator

from consumer.admin.doctor.findings import Finding, green, red, yellow
from consumer.admin.doctor.subject import Subject
from consumer.leases.binding import Binding, at, foreign, refusal
from consumer.leases.state import NO_TABLES, ONE_TABLE
from consumer.leases.tables import OWNER_INDEX, made_at
from pipeline.errors import counted


def tables(subject: Subject) -> Iterator[Finding]:
    """Check that the lease table is KCL's and ready; raises ``UserError`` for another table of this name."""
    name, dynamodb = subject.settings.stream.application, subject.client("dynamodb")
    if made_at(dynamodb, name) is None:
        yield green(f"no lease table {name} yet: the first task creates it")
        return
    table = dynamodb.describe_table(TableName=name)["Table"]
    if table["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        yield red(f"lease table {name} is {table['TableStatus']}", "Wait until it is ACTIVE")
    statuses = {index["IndexName"]: index["IndexStatus"] for index in table.get("GlobalSecondaryIndexes", ())}
    status = statuses.get(OWNER_INDEX)
    if status is None:
        fix = "Allow dynamodb:UpdateTable: KCL adds it at its next start, which then takes minutes"
        yield yellow(f"lease table {name} has no index {OWNER_INDEX}", fix)
    elif status != "ACTIVE":
        yield red(f"index {OWNER_INDEX} is {status}: no task can start", "Wait until it is ACTIVE")
    else:
        migration = f", migration {subject.state.migration.table}" if subject.state.migration.table else ""
        yield green(f"{counted(len(subject.state.leases), 'lease')}, {subject.state.layout}{migration}")


def application(subject: Subject) -> Iterator[Finding]:
    """Check that the lease table belongs to this stream, not to another or to a deleted one with the same name."""
    settings, state = subject.settings, subject.state
    if state.layout == ONE_TABLE:
        said = (
            f"lease table {settings.stream.application} has the layout of KCL 3.5, which no task of this release reads"
        )
        yield red(said, "Give [stream] application another name")
        return
    created_s = int(subject.summary["StreamCreationTimestamp"].timestamp())
    ours = Binding(settings.stream.name, created_s, "", "")
    if state.binding is not None and not state.binding.same_stream(ours):
        said, _, fix = refusal(settings.stream.application, state.binding, ours).partition(". ")
        yield red(said, fix)
    elif state.binding is None and (reason := foreign(subject.shards, state.leases)) is not None:
        said = f"lease table {settings.stream.application} does not belong to this stream: it has {reason}"
        yield red(said, "Give [stream] application another name")
    elif state.layout == NO_TABLES:
        yield green(f"{settings.stream.application} is new, and starts at {settings.stream.start}")
    else:
        yield green(f"{settings.stream.application} reads {settings.stream.name}, created {at(created_s)}")


def max_leases(subject: Subject) -> Iterator[Finding]:
    """Check that all tasks together may hold every lease."""
    most, tasks, leases = subject.settings.kcl.max_leases, subject.running, subject.unfinished
    if not most:
        yield green("kcl.max_leases has no limit")
    elif tasks is None:
        yield yellow(f"kcl.max_leases {most}, and the number of tasks is unknown", "Give --tasks N")
    elif most * tasks < leases:
        said = (
            f"kcl.max_leases {most} x {counted(tasks, 'task')} = {most * tasks}, fewer than {counted(leases, 'lease')}"
        )
        yield red(f"{said}: the rest is not read", f"Set kcl.max_leases to {-(-leases // tasks)} or more, or add tasks")
    elif most * (tasks - 1) < leases:
        fix = f"Set kcl.max_leases to {-(-leases // max(1, tasks - 1))} or more"
        room = f"kcl.max_leases {most} x {counted(tasks, 'task')} for {counted(leases, 'lease')}"
        said = f"{room}: enough, but not without one task"
        yield yellow(said, fix)
    else:
        yield green(f"kcl.max_leases {most} x {counted(tasks, 'task')} for {counted(leases, 'lease')}")
