"""Carries out a rewind on a lease table: while every worker is stopped, or while workers run. Blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from consumer.admin.replay.lease_writes import AT_ONCE, PARK, keep_parked, park, unpark
from consumer.admin.reset_leases import MARGIN_S, renewed
from consumer.leases.leases import Lease, read
from consumer.leases.tables import Item
from pipeline.errors import Fatal, RefusedError, counted
from pipeline.retry import Retry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Leases = Mapping[str, Lease]

PARK_TRIES = 20
"""Attempts. A worker renews a lease every few seconds, which changes the counter after it was read."""

AGAIN_S = 0.2

KEEP_S = 2.0
"""Seconds between two renewals of a parked lease."""

PARKED_S = 1.0
"""Seconds for which leases are parked beyond the time in which KCL notices."""


class LeaseChanged(Exception):
    """A lease has changed since it was read: nothing of the transaction was written."""


class LeaseTable:
    """The lease table of one application. ``sleep`` waits; ``tell`` is called with each step."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        application: str,
        *,
        failover_s: float,
        sleep: Callable[[float], object] = time.sleep,
        tell: Callable[[str], object] = lambda what: None,
    ) -> None:
        self.name = application
        self._dynamodb = dynamodb
        self._failover_s = failover_s
        self._sleep = sleep
        self._tell = tell
        self._owner = f"{PARK}-{uuid4().hex[:8]}"

    def read(self) -> dict[str, Lease]:
        """The items of the leases now, by shard."""
        return {lease.shard_id: lease for lease in read(self._dynamodb, self.name)}

    def must_be_idle(self, planned: Leases) -> None:
        """Return once it is certain that no worker renews these leases. ``planned``: the items as they were read.

        :raises RefusedError: a worker renews a lease, or a lease has changed since it was read.
        """
        if any(lease.owner or lease.draining_owner for lease in planned.values()):
            self._tell(f"checking for {self._failover_s + MARGIN_S:g} s that no worker renews a lease")
            self._sleep(self._failover_s + MARGIN_S)
        if moved := renewed(planned.values(), self.read().values()):
            who = f"worker {moved[0].holder}" if moved[0].holder else "a worker"
            raise RefusedError(
                f"{who} holds the lease of {moved[0].shard_id}. Stop every worker first, or give --online"
            )

    def offline(self, writes: Sequence[Item]) -> None:
        """Write while every worker is stopped. Up to 100 writes are one transaction.

        An interruption of more than 100 leaves some leases moved; the same command moves the others.

        :raises RefusedError: a lease has changed since it was read.
        """
        for begin in range(0, len(writes), AT_ONCE):
            try:
                self._transact(writes[begin : begin + AT_ONCE])
            except LeaseChanged:
                raise RefusedError(
                    "the leases have changed since they were read: a worker has started, or another rewind has moved "
                    "them. Stop every worker first, or give --online"
                ) from None

    def online(self, choose: Callable[[Leases], Collection[str]], writes: Callable[[Leases], Sequence[Item]]) -> None:
        """Take leases away from their workers, wait until those have noticed, and write.

        ``choose`` names the shards whose leases are taken; ``writes`` gets the leases as they are then. An interruption
        before the last write costs a fail-over of the shards, and moves no lease.

        :raises RefusedError: there are more leases than one transaction takes; or a worker takes a parked lease.
        """
        parked: list[str] = []
        try:
            self._park(choose, parked)
            self._keep(parked)
            entries = writes(self.read())
            if len(entries) > AT_ONCE:
                raise RefusedError(_TOO_MANY.format(len(entries)))
            self._tell(f"moving {counted(len(entries), 'lease')}")
            try:
                self._transact(entries)
            except LeaseChanged:
                raise self._taken(parked) from None
        except KeyboardInterrupt:
            self._tell(self._interrupted(parked))
            raise
        finally:
            self._unpark(parked)

    def _park(self, choose: Callable[[Leases], Collection[str]], chosen: list[str]) -> None:
        """Fill ``chosen`` before the leases are taken, so that they are freed whatever happens."""

        def parked() -> bool:
            leases = self.read()
            chosen[:] = sorted(choose(leases))
            if len(chosen) > AT_ONCE:
                raise RefusedError(_TOO_MANY.format(len(chosen)))
            self._must_be_the_only_rewind(leases)
            try:
                self._transact([park(self.name, leases[shard_id], self._owner) for shard_id in chosen])
            except LeaseChanged:
                return False
            return True

        if not Retry(AGAIN_S, AGAIN_S, tries=PARK_TRIES).until_blocking(parked, sleep=self._sleep):
            raise Fatal("the leases change too often to be parked. Try again")
        self._tell(
            f"parked {counted(len(chosen), 'lease')}; waiting {self._failover_s + PARKED_S:g} s until workers notice"
        )

    def _must_be_the_only_rewind(self, leases: Leases) -> None:
        """Leases that a killed rewind has parked are free after a fail-over: only those that are renewed are in use."""
        others = [lease for lease in leases.values() if lease.owner.startswith(PARK) and lease.owner != self._owner]
        if not others:
            return
        self._tell(f"{others[0].shard_id} is parked by another rewind; looking whether that one still runs")
        self._sleep(max(self._failover_s, KEEP_S) + PARKED_S)
        now = self.read()
        if [each for each in others if each.shard_id not in now or now[each.shard_id].counter != each.counter]:
            raise RefusedError(_OTHER)

    def _taken(self, shard_ids: Sequence[str]) -> RefusedError:
        """Who has changed a parked lease."""
        owners = {lease.owner for lease in self.read().values() if lease.shard_id in shard_ids} - {self._owner, ""}
        return RefusedError(_OTHER if any(owner.startswith(PARK) for owner in owners) else _TAKEN)

    def _interrupted(self, shard_ids: Sequence[str]) -> str:
        """What was moved. The moves are one transaction, so leases are all moved or all still parked."""
        parked = [lease.shard_id for lease in self.read().values() if lease.owner == self._owner]
        if parked or not shard_ids:
            return (
                f"interrupted: no lease was moved. {counted(len(parked), 'parked lease')} get free now, and workers "
                "read on where they were, after a fail-over. Run the same command again to move them"
            )
        return (
            "interrupted: no lease is parked. Either the leases were moved already, or they were not parked yet. "
            "Run the same command without --execute: it shows where they are"
        )

    def _keep(self, shard_ids: Sequence[str]) -> None:
        """Wait until every worker has noticed that it lost its lease."""
        left_s = self._failover_s + PARKED_S
        entries = [keep_parked(self.name, shard_id, self._owner) for shard_id in shard_ids]
        while left_s > 0:
            self._sleep(min(KEEP_S, left_s))
            left_s -= KEEP_S
            try:
                self._transact(entries)
            except LeaseChanged:
                raise self._taken(shard_ids) from None

    def _unpark(self, shard_ids: Sequence[str]) -> None:
        """Free the leases that are still parked: those that do not move, or all of them if none moved."""
        for lease in self.read().values():
            if lease.shard_id in shard_ids and lease.owner == self._owner:
                try:
                    self._transact([unpark(self.name, lease)])
                except LeaseChanged:
                    continue

    def _transact(self, entries: Sequence[Item]) -> None:
        if not entries:
            return
        try:
            self._dynamodb.transact_write_items(TransactItems=[dict(entry) for entry in entries])  # type: ignore[misc]
        except self._dynamodb.exceptions.TransactionCanceledException:
            raise LeaseChanged from None


_TAKEN = "a worker has taken a parked lease; nothing was moved. Try again"

_OTHER = "another rewind moves these leases; this one moved nothing. Wait until that one has ended, and plan again"

_TOO_MANY = (
    "{} leases would have to be moved at once, and a transaction takes 100. Stop every worker and leave --online out, "
    "or read the slice with an application of its own (--from, --to and --url)"
)
