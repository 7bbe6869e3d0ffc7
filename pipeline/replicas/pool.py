"""Replicas of one role: each request goes to the least busy one, and a replica that ends is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from pipeline import background
from pipeline.errors import Fatal, PenstockError, ReplicaDied, one_line
from pipeline.events import ModelEvent, ReplicaReplaced
from pipeline.model_process import frames as wire
from pipeline.model_process.assignment import Assignment
from pipeline.outages import Component, Outages
from pipeline.replicas import answers
from pipeline.replicas.process import DEPTH, ReplicaProcess, Unbegun
from pipeline.replicas.starter import ReplicaStarter
from pipeline.replicas.witnesses import fails
from pipeline.retry import Retry
from pipeline.tracebacks import log_traceback

log = logging.getLogger("host")

START = Retry(0.5, 15.0, jitter=0.5)
"""Of a replica, or of a call on replicas that all fail; ``model.give_up_after_s`` says for how long."""

LOOK_AGAIN_S = 1.0
"""Seconds between looks for a free replica: when a cancelled request is answered, nothing signals it."""

SETTLED_S = 5.0
"""A replica that has lived this many seconds counts as started well, whatever happened before."""


class LostDevice(ReplicaDied):
    """The replica reported that its device failed. It is replaced."""


class Pool:
    """``failed`` resolves with the reason when a replica cannot be replaced; every call raises it from then on.

    A replica that fails in its first start is an error. One that has served and does not start again is retried for
    ``give_up_after_s``; ``outages`` shows it meanwhile. Requests wait for it, or go to other replicas.
    """

    def __init__(
        self,
        assignments: Sequence[Assignment],
        *,
        timeout_s: float,
        start_timeout_s: float,
        give_up_after_s: float,
        outages: Outages,
        failed: asyncio.Future[BaseException],
        on_event: Callable[[ModelEvent], None],
        link: Callable[[Assignment], ReplicaProcess] = ReplicaProcess,
    ) -> None:
        self._assignments = assignments
        self._starter = ReplicaStarter(link, start_timeout_s)
        self._timeout_s = timeout_s
        self._give_up_after_s = give_up_after_s
        self._outages = outages
        self._failed = failed
        self._on_event = on_event
        self._serving: list[ReplicaProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._freed = asyncio.Event()
        self._stopped = False
        self._wanted_new = 0
        self.passes = 0
        """How many answers contained a record that passed."""

    @property
    def slots(self) -> int:
        """How many calls may usefully run at once."""
        return len(self._assignments) * DEPTH

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that serve."""
        return [link.pid for link in self._serving if link.pid is not None and not link.ended.done()]

    async def start(self) -> answers.Ready:
        """Start all replicas at once. Return the first answer of the first one.

        :raises ModelError: the model cannot be used.
        :raises Fatal: a replica died while it loaded.
        """
        frames = await background.all_of(*(partial(self._first_start, each) for each in self._assignments))
        self._keepers = [
            background.start(partial(self._keep, link), name="the keeper of a replica", on_failure=self._fail)
            for link in self._serving
        ]
        return frames[0]

    async def call(self, op: str, payloads: Sequence[bytes]) -> answers.Answer:
        """Send a request to the least busy replica and return its answer.

        :raises ReplicaDied: a replica ended during this request; :class:`LostDevice` if its device failed.
        :raises Fatal: no replica can be had any more.
        """
        return (await self.tried(op, payloads))[0]

    async def tried(self, op: str, payloads: Sequence[bytes]) -> tuple[answers.Answer, ReplicaProcess, bool]:
        """As :meth:`call`; also return the replica that answered, and whether this was its first request.

        If memory runs out for a single record, it is tried again on a fresh replica before this counts: otherwise a
        model that leaks would condemn every record in the end.
        """
        while True:
            link = await self._free_link()
            is_new = not link.calls and not link.load
            try:
                answer = await self.ask(link, op, payloads)
            except Unbegun:
                continue
            if answer.op != "worn":
                return answer, link, is_new
            async with self.held(new=True) as link:
                with contextlib.suppress(Unbegun):
                    return await self.ask(link, op, payloads), link, True

    async def ask(self, link: ReplicaProcess, op: str, payloads: Sequence[bytes]) -> answers.Answer:
        """Send a request to this replica and return its answer.

        :raises Unbegun: it ended before it began with this request.
        :raises ReplicaDied: as :meth:`call`.
        """
        try:
            frame = await link.ask(op, payloads, self._timeout_s)
        finally:
            self._freed.set()
        link.calls += 1
        count = len(payloads) + (op in {"example", wire.BESIDE_EXAMPLE})
        answer = self._read(link, frame, op, count)
        some_passed = not isinstance(answer, answers.Failed) and len(answer.faults) < count
        link.is_well = some_passed or (link.is_well and not fails(answer))
        if isinstance(answer, answers.Failed):
            if answer.op == "fatal":
                raise Fatal(f"the model asked to stop: {answer.fault.reason}")
            if answer.op == "worn":
                link.discard("ran out of memory with a single record")
            if answer.op == "broken":
                link.discard("lost its device")
                raise LostDevice(f"lost its device: {answer.fault.reason}")
        if some_passed:
            link.passes += 1
            self.passes += 1
        return answer

    @contextlib.asynccontextmanager
    async def held(
        self, *, new: bool = False, well: bool = False, best: ReplicaProcess | None = None
    ) -> AsyncIterator[ReplicaProcess]:
        """Hold a replica that gets no other request meanwhile.

        ``new``: it has not predicted anything. ``well``: prefer one that did not fail last. ``best``: prefer this one.
        Preferences are not guarantees.
        """
        self._wanted_new += new
        try:
            link = await self._claimed(new=new, well=well, best=best)
        finally:
            self._wanted_new -= new
        try:
            yield link
        finally:
            link.held = False
            self._freed.set()

    def _read(self, link: ReplicaProcess, frame: wire.Frame, op: str, count: int) -> answers.Answer:
        try:
            return self._starter.reader.read(frame, op, count)
        except wire.Garbage as garbage:
            raise link.spoilt(garbage) from None

    async def stop(self) -> None:
        """Stop every replica and wait for its end: about a second, plus the time of the model's ``close``."""
        self._stopped = True
        self._freed.set()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._starter.close()

    # -- who serves

    async def _free_link(self) -> ReplicaProcess:
        while True:
            free = [link for link in self._serving if link.can_take and (link.calls or not self._wanted_new)]
            self._check()
            if free:
                return min(free, key=lambda link: link.load)
            await self._look_again()

    async def _claimed(self, *, new: bool, well: bool, best: ReplicaProcess | None) -> ReplicaProcess:
        """Claim a replica, so that it gets no other request. If ``new`` and all have predicted, one of them is
        replaced.
        """
        while True:
            self._check()
            able = [link for link in self._serving if link.can_serve and not link.held]
            if not able:
                await self._look_again()
                continue
            link = min(
                able, key=lambda link: (link is not best, new and link.calls > 0, well > link.is_well, link.load)
            )
            link.held = True
            try:
                while link.load and link.can_serve:
                    await self._look_again()
                self._check()
            except BaseException:
                link.held = False
                raise
            if link.can_serve and not (new and link.calls):
                return link
            if link.can_serve:
                link.discard("was replaced by a fresh one")
            link.held = False

    def _check(self) -> None:
        if self._failed.done():
            raise Fatal(str(self._failed.result()))
        if self._stopped:
            raise Fatal("the model host was stopped")

    async def _look_again(self) -> None:
        self._freed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):  # wait_for loses a cancellation that comes with the event
                await self._freed.wait()

    async def _first_start(self, assignment: Assignment) -> answers.Ready:
        link, ready = await self._starter.start(assignment)
        self._serving.append(link)
        return ready

    async def _keep(self, link: ReplicaProcess) -> None:
        """Replace the replica whenever it ends, until starts have failed for ``give_up_after_s``."""
        part = self._outages.part("model", self._give_up_after_s)
        while True:
            reason = await self._end_of(link, part)
            self._serving.remove(link)
            self._starter.has_ended(link)
            log.warning("replica %d %s; starting another", link.number, reason)
            try:
                if link.was_useless:
                    await self._pause(part, Fatal("replicas end right after their start"))
                else:
                    part.worked()
                link = await self._replacement(link.assignment, part)
            except PenstockError as error:
                self._fail(Fatal(f"replica {reason}, and its replacement does not start: {error}"))
                return
            self._serving.append(link)
            self._freed.set()
            self._on_event(ReplicaReplaced(reason))

    async def _end_of(self, link: ReplicaProcess, part: Component) -> str:
        await asyncio.wait([link.ended], timeout=SETTLED_S)
        if not link.ended.done():
            part.worked()
        return await asyncio.shield(link.ended)

    async def _replacement(self, assignment: Assignment, part: Component) -> ReplicaProcess:
        """Start the next replica, however many tries it takes. Raises the last error when the time is over."""
        while True:
            try:
                return (await self._starter.start(assignment))[0]
            except PenstockError as error:
                failure = error
            except Exception as error:  # noqa: BLE001  # any error is retried within give_up_after_s
                failure = Fatal(one_line(error))
            log_traceback(log, failure)
            log.error("a replica did not start: %s", failure)
            await self._pause(part, failure)

    async def _pause(self, part: Component, failure: PenstockError) -> None:
        """Pause before the next try; raise ``failure`` if starts have failed for too long."""
        if part.failed(f"no replica starts: {failure}"):
            raise failure
        await asyncio.sleep(START.wait_in(part.trouble()))

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_result(error)
        self._freed.set()
