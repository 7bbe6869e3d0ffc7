"""The note on a lease (:mod:`consumer.poison.doubt`), and leases held by a careful reader. All calls block.

KCL does not touch attributes that it does not know: a note survives renewals, checkpoints and handoffs. Every write is
conditional on what was read, so concurrent workers are safe. The owner of a lease that is read carefully is a name that
no KCL worker has, so each write adds 1 to the lease counter. A change of owner adds 100: KCL treats its own counter
plus one as its own write whose answer was lost.
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
"""The attribute of the lease that has the note."""

HOLDER = "penstock-careful-"
"""The prefix of the owner of a lease that is read carefully; the worker id follows."""

PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


@dataclass(frozen=True, slots=True)
class Noted:
    """A lease and its note, as they were read. ``text`` is the stored note."""

    lease: Lease
    text: str

    @property
    def shard_id(self) -> str:
        """The shard of the lease."""
        return self.lease.shard_id

    @property
    def doubt(self) -> Doubt:
        """The note, parsed. A note that cannot be parsed counts as empty."""
        return parsed(self.text)

    @property
    def may_be_careful(self) -> bool:
        """Whether records would be read again: not after SHARD_END, and not from LATEST."""
        return self.lease.sentinel not in {"LATEST", "SHARD_END"}


class LeaseNotes:
    """The notes of one application. Calls raise the errors of botocore."""

    def __init__(self, dynamodb: Callable[[], DynamoDBClient], application: str) -> None:
        self._client = dynamodb
        self._table = application

    def all(self) -> Iterator[Noted]:
        """Yield every lease with its note, read consistently."""
        return (Noted(lease_of(item), text(item, NOTE)) for item in lease_items(self._client(), self._table))

    def read(self, shard_id: str) -> Noted | None:
        """Return the lease with its note, read consistently; None if there is no such lease."""
        found = self._client().get_item(TableName=self._table, Key={"leaseKey": {"S": shard_id}}, ConsistentRead=True)
        item = found.get("Item")
        return Noted(lease_of(item), text(item, NOTE)) if item else None

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool:
        """Change the note. Returns False if the stored note is not ``before``."""
        after = written(doubt)
        if after == before:
            return True
        update, condition = [], ["attribute_exists(leaseKey)", _still_says(before)]
        update.append(f"SET {NOTE} = :after" if after else f"REMOVE {NOTE}")
        return self._update(shard_id, update, condition, {":after": after, ":before": before})

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        """Take a lease for ``holder``. Returns False if it has changed since it was read.

        The caller must know that no living worker holds it.
        """
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

    def pass_over(self, noted: Noted, doubt: Doubt) -> bool:
        """Write an operator's note, and take the lease from its owner in the same write, so that the next owner sees
        it.

        False if note or owner has changed since they were read.
        """
        owner = noted.lease.owner
        condition = [
            "attribute_exists(leaseKey)",
            _still_says(noted.text),
            "leaseOwner = :owner" if owner else "attribute_not_exists(leaseOwner)",
            "attribute_not_exists(checkpointOwner)",
        ]
        update = [f"SET {NOTE} = :after", "REMOVE leaseOwner", "ADD leaseCounter :hundred"]
        values: dict[str, str | int] = {
            ":before": noted.text,
            ":after": written(doubt),
            ":owner": owner,
            ":hundred": 100,
        }
        return self._update(noted.shard_id, update, condition, values)

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        """Change the note of a held lease, and its checkpoint. Returns False if ``holder`` no longer holds the lease.

        ``checkpoint`` must be the position of a whole Kinesis record that was read from the stream and is durable. KCL
        gets only its sequence number, which means that the whole record has been passed.
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
        """Renew a held lease. Returns False if ``holder`` no longer holds it."""
        return self._update(
            shard_id, ["ADD leaseCounter :one"], ["leaseOwner = :holder"], {":one": 1, ":holder": holder}
        )

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        """Release a held lease, so that KCL assigns it. Returns False if ``holder`` no longer holds it."""
        after = written(doubt)
        update = [f"SET {NOTE} = :after REMOVE leaseOwner" if after else f"REMOVE leaseOwner, {NOTE}"]
        values: dict[str, str | int] = {":after": after, ":holder": holder, ":hundred": 100}
        return self._update(shard_id, [*update, "ADD leaseCounter :hundred"], ["leaseOwner = :holder"], values)

    def _update(self, shard_id: str, update: list[str], condition: list[str], values: dict[str, str | int]) -> bool:
        """Run the update without the values that no expression uses: DynamoDB refuses unused values."""
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
