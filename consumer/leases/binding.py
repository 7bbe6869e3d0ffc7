"""Binds a lease table to one stream, identified by its name and creation time.

Shard ids are the same in every stream, so the leases of one fit any other: two deployments that share an application
would take shards from each other, and use each other's checkpoints. So the first worker writes beside the leader's lock
to which stream the leases belong; later workers must read the same stream. The binding also stores where the
application starts, because two workers that both start "now" would start at different records.

A binding belongs to one lease table: if the table is created again, so is the binding. All calls block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.aws.shards import KnownShard, known, number
from consumer.leases.leases import Lease, read
from consumer.leases.tables import Item, delete_if, made_at, text
from pipeline.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

KEY = "PenstockStream"
"""The binding's key among the items of ``<application>-CoordinatorState``."""


@dataclass(frozen=True, slots=True)
class Binding:
    """``lease_table``: creation time of the lease table. ``start``: TRIM_HORIZON or a time."""

    stream: str
    stream_created_s: int
    start: str
    lease_table: str

    def same_stream(self, other: Binding) -> bool:
        """Same name and same creation time; a stream that was deleted and created again is another one."""
        return (self.stream, self.stream_created_s) == (other.stream, other.stream_created_s)

    def __str__(self) -> str:
        return f'stream "{self.stream}", created {at(self.stream_created_s)}'


class OtherStream(UserError):
    """The application's leases belong to another stream, or to a deleted one of the same name."""


def at(epoch_s: float) -> str:
    """Return a time in ISO 8601, in UTC, to the second."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def bind(
    dynamodb: DynamoDBClient,
    kinesis: KinesisClient,
    application: str,
    stream: str,
    stream_created_s: int,
    start: str,
    now: datetime,
) -> Binding | None:
    """Return the application's binding, and create it if there is none; None if there are no tables yet.

    If workers race, one of them creates it. ``start`` is only used then; LATEST becomes ``now``, in whole seconds.

    :raises OtherStream: the leases belong to another stream. The text names it and the fix.
    """
    table = made_at(dynamodb, application)
    if table is None:
        return None
    begins = now.replace(microsecond=0).isoformat() if start == "LATEST" else start
    ours = Binding(stream, stream_created_s, begins, table)
    try:
        found = find(dynamodb, application)
        if found is None or found.lease_table != table:
            found = _make(dynamodb, kinesis, application, ours, found)
    except dynamodb.exceptions.ResourceNotFoundException:
        return None
    if not found.same_stream(ours):
        raise OtherStream(refusal(application, found, ours))
    return found


def find(dynamodb: DynamoDBClient, application: str) -> Binding | None:
    """The present binding. Raises ``ResourceNotFoundException`` if there is no table for it."""
    answer = dynamodb.get_item(TableName=_table(application), Key={"key": {"S": KEY}}, ConsistentRead=True)
    return binding_of(dict(answer["Item"])) if "Item" in answer else None


def binding_of(item: Item) -> Binding | None:
    """Parse the item of a binding; None if the item is something else."""
    if KEY not in (text(item, "key"), text(item, "leaseKey")):
        return None
    created_s = int(item["streamCreated"]["N"])
    return Binding(text(item, "streamName"), created_s, text(item, "startsAt"), text(item, "leaseTable"))


def forget(dynamodb: DynamoDBClient, application: str, binding: Binding) -> bool:
    """Delete a binding, if it is still this one: the next worker creates another."""
    of = {"streamName": {"S": binding.stream}, "streamCreated": {"N": str(binding.stream_created_s)}}
    return delete_if(dynamodb, _table(application), {"key": {"S": KEY}}, leaseTable={"S": binding.lease_table}, **of)


def bound_again(dynamodb: DynamoDBClient, application: str, binding: Binding) -> bool:
    """Restore a deleted binding; false if another one has been created since."""
    try:
        dynamodb.put_item(
            TableName=_table(application),
            Item=_item_of(binding),
            ConditionExpression="attribute_not_exists(#key)",
            ExpressionAttributeNames={"#key": "key"},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def refusal(application: str, bound: Binding, ours: Binding) -> str:
    """Why a worker of ``ours`` may not work with leases of ``bound``, and what to do."""
    if bound.stream != ours.stream:
        return (
            f'lease table "{application}" belongs to {bound}: a second stream would take its shards. '
            f'Use another stream.application for stream "{ours.stream}"'
        )
    return (
        f'stream "{ours.stream}" was created again at {at(ours.stream_created_s)}, but lease table "{application}" '
        f"belongs to the one created {at(bound.stream_created_s)}, whose checkpoints are not valid for it. {_RESET}"
    )


def foreign(known: Mapping[str, KnownShard], leases: Iterable[Lease]) -> str | None:
    """Why these leases cannot belong to the stream with these shards; None if they can. Pure.

    Shards that Kinesis no longer lists may still have leases; their numbers are lower than the newest shard's.
    """
    youngest = max((number(shard_id) or 0 for shard_id in known), default=0)
    for lease in leases:
        shard = known.get(lease.shard_id)
        if shard is None:
            if (number(lease.shard_id) or 0) > youngest:
                return f"{lease.shard_id}, which the stream never had"
        elif any(lease.hash_keys) and lease.hash_keys != shard.hash_keys:
            return f"{lease.shard_id} with other hash keys than the stream's shard"
        elif lease.checkpoint is not None and lease.checkpoint.sequence < shard.first_sequence:
            return f"{lease.shard_id} at {lease.checkpoint}, before the first record of the stream's shard"
    return None


_RESET = (
    "Stop all its workers and run `penstock leases reset --config FILE --execute`, or use another stream.application"
)


def _make(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, application: str, ours: Binding, before: Binding | None
) -> Binding:
    """Our binding, or that of another worker that was first."""
    if leases := read(dynamodb, application):
        reason = foreign(known(kinesis, ours.stream), leases)
        if reason is not None:
            raise OtherStream(f'lease table "{application}" does not belong to {ours}: it has {reason}. {_RESET}')
    item = _item_of(ours)
    expected: Item = {":table": {"S": before.lease_table}} if before else {}
    try:
        dynamodb.put_item(
            TableName=_table(application),
            Item=item,
            ConditionExpression="leaseTable = :table" if before else "attribute_not_exists(#key)",
            **({"ExpressionAttributeValues": expected} if before else {"ExpressionAttributeNames": {"#key": "key"}}),
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        found = find(dynamodb, application)
        return found if found is not None else _make(dynamodb, kinesis, application, ours, None)
    return ours


def _item_of(binding: Binding) -> Item:
    return {
        "key": {"S": KEY},
        "streamName": {"S": binding.stream},
        "streamCreated": {"N": str(binding.stream_created_s)},
        "startsAt": {"S": binding.start},
        "leaseTable": {"S": binding.lease_table},
    }


def _table(application: str) -> str:
    return f"{application}-CoordinatorState"
