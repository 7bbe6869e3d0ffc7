"""KCL's lease table in memory: the owner and the checkpoint of each shard, with conditional writes as in DynamoDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from consumer.testing.fake_stream import FakeStream
from pipeline.record import Position

SHARD_END: Final = "SHARD_END"


@dataclass(slots=True)
class FakeLease:
    """One lease.

    ``counter`` increases with each change of owner. ``checkpoint`` None means TRIM_HORIZON. ``switches`` counts the
    changes of owner since the last checkpoint (``ownerSwitchesSinceCheckpoint`` in KCL).
    """

    shard_id: str
    owner: str = ""
    counter: int = 0
    checkpoint: Position | str | None = None
    renewed_at_s: float = 0.0
    switches: int = 0

    @property
    def ended(self) -> bool:
        """Whether the whole shard has been read and checkpointed."""
        return self.checkpoint == SHARD_END


class FakeLeases:
    """The lease table. Any worker may take a lease that has not been renewed for ``failover_s`` seconds.

    ``before`` and ``after`` are called around each call with its name and shard, and may raise
    :class:`consumer.testing.fake_stream.Throttled`: before means that the call did not arrive, after that the answer
    was lost. ``on_checkpoint`` is called before each checkpoint is written.
    """

    def __init__(self, stream: FakeStream, clock: Callable[[], float], *, failover_s: float = 10.0) -> None:
        self.failover_s = failover_s
        self.before: Callable[[str, str], None] = lambda operation, shard_id: None
        self.after: Callable[[str, str], None] = lambda operation, shard_id: None
        self.on_checkpoint: Callable[[FakeLease, Position | str], None] = lambda lease, position: None
        self._stream = stream
        self._clock = clock
        self._leases = {shard_id: FakeLease(shard_id) for shard_id, shard in stream.shards.items() if not shard.parents}

    def __getitem__(self, shard_id: str) -> FakeLease:
        return self._leases[shard_id]

    def __iter__(self) -> Iterator[FakeLease]:
        """All leases, in the order in which they were made."""
        return iter(self._leases.values())

    def expired(self, lease: FakeLease) -> bool:
        """Whether any worker may take the lease."""
        return not lease.owner or self._clock() - lease.renewed_at_s > self.failover_s

    def may_begin(self, shard_id: str) -> bool:
        """Whether the parents of the shard have been read to their end."""
        parents = [self._leases.get(parent) for parent in self._stream.shards[shard_id].parents]
        return all(parent is None or parent.ended for parent in parents)

    # -- a worker's calls

    def take(self, shard_id: str, owner: str, counter: int) -> int | None:
        """Take a lease that has this counter. Returns the new counter, or None if another worker was first."""
        with self._call("take", shard_id):
            lease = self._leases[shard_id]
            if lease.counter != counter:
                return None
            lease.switches += lease.owner not in {"", owner}
            lease.owner = owner
            lease.counter += 1
            lease.renewed_at_s = self._clock()
            return lease.counter

    def renew(self, shard_id: str, owner: str, counter: int) -> bool:
        """Renew a lease. Returns False if another worker has taken it."""
        with self._call("renew", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) != (owner, counter):
                return False
            lease.renewed_at_s = self._clock()
            return True

    def checkpoint(self, shard_id: str, owner: str, counter: int, position: Position | str) -> bool:
        """Store a checkpoint. Returns False if another worker has taken the lease."""
        with self._call("checkpoint", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) != (owner, counter):
                return False
            self.on_checkpoint(lease, position)
            lease.checkpoint = position
            lease.switches = 0
            return True

    def release(self, shard_id: str, owner: str, counter: int) -> None:
        """Release the lease if it still belongs to this owner."""
        with self._call("release", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) == (owner, counter):
                lease.owner = ""
                lease.counter += 1

    def bear(self, shard_id: str) -> None:
        """Make the leases of a shard's children. Existing leases stay as they are."""
        with self._call("bear", shard_id):
            for child in self._stream.shards[shard_id].children:
                self._leases.setdefault(child, FakeLease(child))

    @contextmanager
    def _call(self, operation: str, shard_id: str) -> Iterator[None]:
        self.before(operation, shard_id)
        yield
        self.after(operation, shard_id)
