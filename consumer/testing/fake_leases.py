"""KCL's lease table, in memory: who owns which shard, and how far it has come. Conditional writes, as DynamoDB's."""

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
    """``counter`` rises with each change of hands; ``checkpoint`` None is TRIM_HORIZON. ``switches``: changes of the
    owner since the last checkpoint, which KCL calls ``ownerSwitchesSinceCheckpoint``."""

    shard_id: str
    owner: str = ""
    counter: int = 0
    checkpoint: Position | str | None = None
    renewed_at_s: float = 0.0
    switches: int = 0

    @property
    def ended(self) -> bool:
        return self.checkpoint == SHARD_END


class FakeLeases:
    """A lease is whose name and counter it bears; one that is not renewed for ``failover_s`` is anybody's.

    ``before`` and ``after`` are called around each call with its name and shard, and may raise
    :class:`consumer.testing.fake_stream.Throttled`: before a write it never arrived, after it the answer was lost.
    ``on_checkpoint`` is told of each checkpoint that is about to be written.
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
        """All of them, in the order in which they were made."""
        return iter(self._leases.values())

    def expired(self, lease: FakeLease) -> bool:
        return not lease.owner or self._clock() - lease.renewed_at_s > self.failover_s

    def may_begin(self, shard_id: str) -> bool:
        """Whether the shard's parents have been read to their ends."""
        parents = [self._leases.get(parent) for parent in self._stream.shards[shard_id].parents]
        return all(parent is None or parent.ended for parent in parents)

    # -- a worker's calls

    def take(self, shard_id: str, owner: str, counter: int) -> int | None:
        """Take a lease that has this counter; its new counter, or None if somebody was first."""
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
        """False: it is somebody else's by now."""
        with self._call("renew", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) != (owner, counter):
                return False
            lease.renewed_at_s = self._clock()
            return True

    def checkpoint(self, shard_id: str, owner: str, counter: int, position: Position | str) -> bool:
        """False: the lease is somebody else's by now."""
        with self._call("checkpoint", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) != (owner, counter):
                return False
            self.on_checkpoint(lease, position)
            lease.checkpoint = position
            lease.switches = 0
            return True

    def release(self, shard_id: str, owner: str, counter: int) -> None:
        """Give it up, if it is still this owner's."""
        with self._call("release", shard_id):
            lease = self._leases[shard_id]
            if (lease.owner, lease.counter) == (owner, counter):
                lease.owner = ""
                lease.counter += 1

    def bear(self, shard_id: str) -> None:
        """Make the leases of a shard's children; those that are there stay as they are."""
        with self._call("bear", shard_id):
            for child in self._stream.shards[shard_id].children:
                self._leases.setdefault(child, FakeLease(child))

    @contextmanager
    def _call(self, operation: str, shard_id: str) -> Iterator[None]:
        self.before(operation, shard_id)
        yield
        self.after(operation, shard_id)
