"""The applications that read a stream, as far as they can be found.

Kinesis lists only consumers that are registered for enhanced fan-out; it does not know which applications poll. So
readers are found in three ways, and each says how it was found: named by the operator; by a lease table of this account
and region that a Penstock worker has bound to this stream; as a registered consumer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from consumer.admin.shards.survey import if_allowed
from consumer.aws import shards as aws_shards
from consumer.aws.shards import KnownShard, Summary
from consumer.leases import leases
from consumer.leases.binding import Binding, find

NAMED, BOUND, REGISTERED = "named", "bound to this stream", "registered for fan-out"

COORDINATOR = "-CoordinatorState"

MOST_TABLES = 100
"""Maximum number of lease tables searched; in an account with more, name the other readers with --application."""

Client = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """``owned``: number of open shards whose lease has an owner; None without a lease table."""

    application: str
    how: str
    owned: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the reader as ``--json`` prints it."""
        return {"application": self.application, "known_by": self.how, "open_shards_owned": self.owned}


def readers(
    client: Client, summary: Summary, shards: Mapping[str, KnownShard], named: Iterable[str]
) -> tuple[Reader, ...]:
    """Return the readers, sorted by name. Tables that the caller is not permitted to read are left out."""
    dynamodb = client("dynamodb")
    how: dict[str, str] = {}
    for name in if_allowed("consumers", lambda: aws_shards.fan_out_consumers(client("kinesis"), summary.arn)) or ():
        how[name] = REGISTERED
    for name in if_allowed("tables", lambda: _bound(dynamodb, summary)) or ():
        how[name] = BOUND
    for name in named:
        how[name] = how.get(name, NAMED)
    return tuple(Reader(name, how[name], _owned(dynamodb, name, shards)) for name in sorted(how))


def _bound(dynamodb: Any, summary: Summary) -> list[str]:
    tables = {name for page in dynamodb.get_paginator("list_tables").paginate() for name in page["TableNames"]}
    applications = sorted(
        name.removesuffix(COORDINATOR)
        for name in tables
        if name.endswith(COORDINATOR) and name.removesuffix(COORDINATOR) in tables
    )
    ours = Binding(summary.name, int(summary.created_s), "", "")
    found = []
    for application in applications[:MOST_TABLES]:
        binding = find(dynamodb, application)
        if binding is not None and binding.same_stream(ours):
            found.append(application)
    return found


def _owned(dynamodb: Any, application: str, shards: Mapping[str, KnownShard]) -> int | None:
    found = if_allowed(f"lease table {application}", lambda: leases.read(dynamodb, application))
    if not found:
        return None
    return sum(bool(lease.owner) and shards[lease.shard_id].open for lease in found if lease.shard_id in shards)
