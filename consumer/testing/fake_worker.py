"""A fake of a task's KCL JVM, in this process: takes and renews leases, reads shards and talks to their sessions.

Unlike KCL 3, each worker takes leases by itself, as in KCL 2. A session sees no difference.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from consumer.kcl.wire import Wire
from consumer.testing.fake_kcl import FakeKcl, ProtocolBroken, position_of
from consumer.testing.fake_leases import SHARD_END, FakeLease, FakeLeases
from consumer.testing.fake_stream import FakeStream, Read, Throttled
from pipeline.record import Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between empty reads (``idle_s``) and between attempts to take leases; maximum records of a read."""

    idle_s: float = 1.0
    take_s: float = 2.0
    read_limit: int = 100


class FakeWorker:
    """One worker.

    ``connect`` gets the host's end of a new bridge and starts a session on it. ``latency`` returns the seconds, each
    way, of a call to leases or stream. ``dice`` adds jitter and chooses the worker to steal from. ``children`` has the
    shards whose session has not been told of the loss of the lease; ``told_s`` says when it was, by the clock of the
    event loop.
    """

    def __init__(
        self,
        name: str,
        stream: FakeStream,
        leases: FakeLeases,
        connect: Callable[[Wire], object],
        *,
        pace: Timing | None = None,
        latency: Callable[[], float] = lambda: 0.0,
        dice: random.Random | None = None,
    ) -> None:
        self.name = name
        self.stream = stream
        self.leases = leases
        self.connect = connect
        self.pace = pace or Timing()
        self.children: dict[str, Child] = {}
        self.told_s: dict[str, float] = {}
        self.takes = True
        """Whether it takes leases. A worker that leaves does not, except for the leader of KCL 3.1.3."""
        self._latency = latency
        self._dice = dice or random.Random(0)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._failure: asyncio.Future[BaseException]

    async def run(self) -> None:
        """Run until cancelled, which is like kill -9.

        :raises ProtocolBroken: if a session violates the protocol.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self.spawn(self._take())
        self.spawn(self._renew())
        try:
            raise await self._failure
        finally:
            self._failure.cancel()
            for task in self._tasks:
                task.cancel()

    def shutdown(self) -> None:
        """Ask every session to shut down, like the JVM after SIGTERM. The leases are not released."""
        for child in self.children.values():
            child.leaving = True

    def hand_off(self, shard_id: str) -> None:
        """Give up one shard: send ``shutdownRequested``, then release the lease."""
        if child := self.children.get(shard_id):
            child.leaving = child.releases = True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background, as long as :meth:`run` runs. Its error ends :meth:`run`."""
        if self._failure.done():
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) and not self._failure.done():
            self._failure.set_result(error)

    async def ask(self, call: Callable[[], T]) -> T:
        """Make a call to the lease table or the stream, with the latency of both ways."""
        await self._travel()
        try:
            return call()
        finally:
            await self._travel()

    async def _travel(self) -> None:
        if seconds := self._latency():
            await asyncio.sleep(seconds)

    async def beat(self, seconds: float) -> None:
        """Sleep for ``seconds``, with up to 20 % of jitter."""
        await asyncio.sleep(seconds * self._dice.uniform(0.8, 1.2))

    # -- leases

    async def _take(self) -> None:
        while True:
            for lease in self._wanted() if self.takes else ():
                await self._take_one(lease.shard_id, lease.counter)
            await self.beat(self.pace.take_s)

    async def _take_one(self, shard_id: str, counter: int) -> None:
        try:
            taken = await self.ask(lambda: self.leases.take(shard_id, self.name, counter))
        except Throttled:
            return
        if taken is not None and shard_id not in self.children:
            child = self.children[shard_id] = Child(self, shard_id, taken)
            self.spawn(child.live())

    def _wanted(self) -> list[FakeLease]:
        """Free leases up to a fair share; if there are none, one of a worker that has at least two more."""
        active = [lease for lease in self.leases if not lease.ended]
        free = [lease for lease in active if self.leases.expired(lease) and lease.shard_id not in self.children]
        taken = [lease for lease in active if not self.leases.expired(lease)]
        owners = {lease.owner: 0 for lease in taken}
        for lease in taken:
            owners[lease.owner] += 1
        mine = owners.setdefault(self.name, 0)
        if free:
            return free[: max(0, -(-len(active) // len(owners)) - mine)]
        rich = [lease for lease in taken if owners[lease.owner] >= mine + 2 and lease.shard_id not in self.children]
        return [self._dice.choice(rich)] if rich else []

    async def _renew(self) -> None:
        while True:
            await self.beat(self.leases.failover_s / 3)
            for child in list(self.children.values()):
                if not child.lost:
                    await self._renew_one(child)

    async def _renew_one(self, child: Child) -> None:
        asked_s = asyncio.get_running_loop().time()
        try:
            kept = await self.ask(lambda: self.leases.renew(child.shard_id, self.name, child.counter))
        except Throttled:
            return
        if kept:
            child.renewed_s = asked_s
        else:
            child.is_lost = True


class Child(FakeKcl):
    """One lease's shard consumer, and the bridge that it starts."""

    def __init__(self, worker: FakeWorker, shard_id: str, counter: int) -> None:
        super().__init__()
        self.shard_id = shard_id
        self.counter = counter
        self.leaving = False
        self.releases = False
        self.is_lost = False
        self.renewed_s = asyncio.get_running_loop().time()
        self.asked_s = 0.0
        """When the message was sent that waits for its status, by the clock of the event loop."""
        self._worker = worker
        self._floor: Position | None = None
        self._delivered: Position | None = None
        self._ended = False

    @property
    def lost(self) -> bool:
        """Whether this worker treats the lease as lost. KCL does so if it could not renew the lease in time."""
        now = asyncio.get_running_loop().time()
        return self.is_lost or now - self.renewed_s > self._worker.leases.failover_s

    def begin(self, action: str, **fields: Any) -> None:
        """Send a message without waiting for its status; see :meth:`FakeKcl.begin`."""
        self.asked_s = asyncio.get_running_loop().time()
        super().begin(action, **fields)

    # -- its life

    async def live(self) -> None:
        """Run from the taken lease to its end."""
        worker = self._worker
        while not worker.leases.may_begin(self.shard_id) and not (self.lost or self.leaving):
            await worker.beat(worker.pace.idle_s)
        if not (self.lost or self.leaving):
            await self._consume()
            self.close()
            while not (self._ended or self.leaving or self.lost):
                await worker.beat(worker.pace.idle_s)  # KCL asks the closed child to end the shard again and again
        if self.releases and not self.lost:
            await self._patiently(lambda: worker.leases.release(self.shard_id, worker.name, self.counter))
        del worker.children[self.shard_id]

    async def _consume(self) -> None:
        at = await self._initialize()
        while not (self.lost or self.leaving):
            read = await self._read(at)
            if read is None or self.lost or self.leaving:
                continue
            if read.rows:
                at = self._delivered = Position(
                    int(read.rows[-1]["sequenceNumber"]), read.rows[-1]["subSequenceNumber"]
                )
            await self.process(read.rows, read.behind_ms)
            if read.ended and not self.lost:
                await self._end()
                return
            if not read.rows:
                await self._worker.beat(self._worker.pace.idle_s)
        if not self.lost:
            await self.say("shutdownRequested")
        await self.say("leaseLost")
        self._worker.told_s[self.shard_id] = asyncio.get_running_loop().time()

    async def _initialize(self) -> Position | None:
        checkpoint = self._worker.leases[self.shard_id].checkpoint
        self._worker.connect(self)
        if isinstance(checkpoint, Position):
            self._floor = checkpoint
            await self.initialize(self.shard_id, str(checkpoint.sequence), checkpoint.sub)
            return checkpoint
        await self.initialize(self.shard_id, checkpoint or "TRIM_HORIZON")
        return None

    async def _read(self, at: Position | None) -> Read | None:
        worker = self._worker
        try:
            return await worker.ask(lambda: worker.stream.read(self.shard_id, at, worker.pace.read_limit))
        except Throttled:
            await worker.beat(worker.pace.idle_s)
            return None

    async def _end(self) -> None:
        """End the shard. The leases of the children are made first, so that a crash cannot leave them out."""
        await self._patiently(lambda: self._worker.leases.bear(self.shard_id))
        await self.say("shardEnded")

    async def _patiently(self, call: Callable[[], None]) -> None:
        while not self.lost:
            try:
                await self._worker.ask(call)
            except Throttled:
                await self._worker.beat(self._worker.pace.idle_s)
            else:
                return

    # -- checkpoints

    def _rule(self, message: dict[str, Any]) -> None:
        self._worker.spawn(self._decide(message))

    async def _decide(self, message: dict[str, Any]) -> None:
        position = position_of(message)
        error = await self._write(position)
        if error is None:
            self.checkpoints.append(position)
        self._say({**message, "error": error})

    async def _write(self, position: Position | None) -> str | None:
        """Write a checkpoint. Returns the name of the exception that KCL throws, or None."""
        if self.lost:
            return "ShutdownException"
        target = self._target(position)
        leases, name = self._worker.leases, self._worker.name
        try:
            written = await self._worker.ask(lambda: leases.checkpoint(self.shard_id, name, self.counter, target))
        except Throttled:
            return "ThrottlingException"
        if not written:
            self.is_lost = True
            return "ShutdownException"
        if isinstance(target, Position):
            self._floor = target
        else:
            self._ended = True
        return None

    def _target(self, position: Position | None) -> Position | str:
        """The position to store. KCL reads nulls as the end of what was delivered, or as the end of the shard. It
        accepts positions between the last checkpoint and the largest delivered one."""
        if self.asked == "shardEnded" and position is None:
            return SHARD_END
        target = self._delivered if position is None else position
        if target is None or self._delivered is None or target > self._delivered:
            raise ProtocolBroken(f"{self.shard_id}: checkpoint {target}, but {self._delivered} was delivered")
        if self._floor is not None and target < self._floor:
            raise ProtocolBroken(f"{self.shard_id}: checkpoint {target} goes back from {self._floor}")
        return target
