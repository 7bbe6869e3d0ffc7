"""The note that :mod:`consumer.poison.doubt` keeps on a lease, and a lease held by a careful reader. All calls block.

KCL leaves an attribute that is not its own alone: it survives renewals, checkpoints and hand-offs. Every write is
conditional on what was read, so any number of workers may race. A lease that a careful reader holds bears its name,
which no worker of KCL's has, so each write may add just one to its counter; where it changes hands 100 are added, since
KCL takes "mine, and one more" for its own lost answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.leases.leases import Lease, as_kcl_has_it, lease_of
from consumer.leases.tables import Item, lease_items, text
from consumer.poison.doubt import Doubt, parsed, written
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOTE = "penstockDoubt"
"""The attribute of a lease."""

HOLDER = "penstock-careful-"
"""Begins the name of a careful reader's; the worker's id follows."""

PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


@dataclass(frozen=True, slots=True)
class Noted:
    """A lease and its note, as they were read. ``text`` is the note as it lies there."""

    lease: Lease
    text: str

    @property
    def shard_id(self) -> str:
        return self.lease.shard_id

    @property
    def doubt(self) -> Doubt:
        return parsed(self.text)

    @property
    def may_be_careful(self) -> bool:
        """Not where everybody begins at the stream's tip: there is nothing that the next task would read again."""
        return self.lease.sentinel not in {"LATEST", "SHARD_END"}


class LeaseNotes:
    """Of one application. Calls raise botocore's errors."""

    def __init__(self, dynamodb: Callable[[], DynamoDBClient], application: str) -> None:
        self._client = dynamodb
        self._table = application

    def all(self) -> Iterator[Noted]:
        """Every lease, read consistently."""
        return (Noted(lease_of(item), text(item, NOTE)) for item in lease_items(self._client(), self._table))

    def read(self, shard_id: str) -> Noted | None:
        """None if there is no such lease."""
        found = self._client().get_item(TableName=self._table, Key={"leaseKey": {"S": shard_id}}, ConsistentRead=True)
        item = found.get("Item")
        return Noted(lease_of(item), text(item, NOTE)) if item else None

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool:
        """Change the note; false if it is not as it was ``before``."""
        after = written(doubt)
        if after == before:
            return True
        update, condition = [], ["attribute_exists(leaseKey)", _still_says(before)]
        update.append(f"SET {NOTE} = :after" if after else f"REMOVE {NOTE}")
        return self._update(shard_id, update, condition, {":after": after, ":before": before})

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        """Take a lease that nobody alive has; false if it has changed since it was read."""
        lease = noted.lease
        condition = [_still_says(noted.text), "leaseCounter = :counter"]
        condition.append("leaseOwner = :owner" if lease.owner else "attribute_not_exists(leaseOwner)")
        condition.append(
            "checkpointOwner = :drainer" if lease.draining_owner else "attribute_not_exists(checkpointOwner)"
        )
        update = [f"SET leaseOwner = :holder, {NOTE} = :after", "REMOVE checkpointOwner", "ADD leaseCounter :hundred"]
        values: dict[str, str | int] = {
            ":before": noted.text,
            ":after": written(doubt),
            ":holder": holder,
            ":owner": lease.owner,
            ":drainer": lease.draining_owner,
            ":counter": lease.counter,
            ":hundred": 100,
        }
        return self._update(noted.shard_id, update, condition, values)

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        """Change the note of a held lease, and its checkpoint; false if it is held no more.

        ``checkpoint`` must be the end of a Kinesis record that a read of the stream has returned, and not beyond what
        is durable. Only its sequence number is KCL's: that is where the whole record is passed.
        """
        after = written(doubt)
        sets, removes = [], []
        sets += [f"{NOTE} = :after"] if after else []
        removes += [] if after else [NOTE]
        values: dict[str, str | int] = {":after": after, ":holder": holder, ":one": 1}
        if checkpoint is not None:
            sets += [
                "checkpoint = :sequence",
                "checkpointSubSequenceNumber = :sub",
                "ownerSwitchesSinceCheckpoint = :zero",
            ]
            removes.append(PENDING)
            passed = as_kcl_has_it(checkpoint)
            values |= {":sequence": str(passed.sequence), ":sub": passed.sub, ":zero": 0}
        update = [f"SET {', '.join(sets)}"] if sets else []
        update += [f"REMOVE {', '.join(removes)}"] if removes else []
        return self._update(shard_id, [*update, "ADD leaseCounter :one"], ["leaseOwner = :holder"], values)

    def keep(self, shard_id: str, holder: str) -> bool:
        """Renew a held lease; false if it is held no more."""
        return self._update(
            shard_id, ["ADD leaseCounter :one"], ["leaseOwner = :holder"], {":one": 1, ":holder": holder}
        )

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        """Give a held lease up, for KCL to assign; false if it was held no more."""
        after = written(doubt)
        update = [f"SET {NOTE} = :after REMOVE leaseOwner" if after else f"REMOVE leaseOwner, {NOTE}"]
        values: dict[str, str | int] = {":after": after, ":holder": holder, ":hundred": 100}
        return self._update(shard_id, [*update, "ADD leaseCounter :hundred"], ["leaseOwner = :holder"], values)

    def _update(self, shard_id: str, update: list[str], condition: list[str], values: dict[str, str | int]) -> bool:
        """Values that no expression names are left out: DynamoDB refuses them."""
        said = " ".join([*update, *condition]).replace(",", " ").split()
        typed: Item = {
            name: {"S": value} if isinstance(value, str) else {"N": str(value)}
            for name, value in values.items()
            if name in said
        }
        dynamodb = self._client()
        try:
            dynamodb.update_item(
                TableName=self._table,
                Key={"leaseKey": {"S": shard_id}},
                UpdateExpression=" ".join(update),
                ConditionExpression=" AND ".join(condition),
                ExpressionAttributeValues=typed,
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _still_says(before: str) -> str:
    return f"{NOTE} = :before" if before else f"attribute_not_exists({NOTE})"
