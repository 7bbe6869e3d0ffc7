"""Replicas of one role: requests go to the least busy, and one that ends is replaced while the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from pipeline import wire
from pipeline.errors import Fatal, ModelError, PenstockError, ReplicaDied
from pipeline.events import ModelEvent, ReplicaReplaced
from pipeline.link import DEPTH, Link, TimedOut, Unbegun
from pipeline.work import Assignment

log = logging.getLogger("host")

RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Before each start in a row of failed ones; after the last the host gives up."""


class Pool:
    """``failed`` resolves with the reason when a replica cannot be replaced; every call raises it from then on."""

    def __init__(
        self,
        assignments: Sequence[Assignment],
        *,
        timeout_s: float,
        start_timeout_s: float,
        failed: asyncio.Future[BaseException],
        on_event: Callable[[ModelEvent], None],
        link: Callable[[Assignment], Link] = Link,
    ) -> None:
        self._assignments = assignments
        self._link = link
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._failed = failed
        self._on_event = on_event
        self._links: set[Link] = set()  # whatever has a process
        self._serving: list[Link] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._freed = asyncio.Event()
        self._stopped = False

    @property
    def slots(self) -> int:
        """So many calls may usefully run at once."""
        return len(self._assignments) * DEPTH

    @property
    def pids(self) -> list[int]:
        """Of the replicas that serve."""
        return [link.pid for link in self._serving if link.pid is not None and not link.ended.done()]

    async def start(self) -> wire.Frame:
        """Start all at once; what the first of them says. ``ModelError`` or ``Fatal`` if one fails to."""
        starts = [asyncio.ensure_future(self._first_start(assignment)) for assignment in self._assignments]
        try:
            frames = await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
        self._keepers = [asyncio.create_task(self._keep(link)) for link in self._serving]
        return frames[0]

    async def call(self, op: str, payloads: Sequence[bytes]) -> wire.Frame:
        """Have some replica answer. ``ReplicaDied`` if one ended over this very request, ``Fatal`` if none will do."""
        while True:
            link = await self._free_link()
            try:
                frame = await link.ask(op, payloads, self._timeout_s)
            except Unbegun:
                continue
            finally:
                self._freed.set()
            if frame.op == "fatal":
                raise Fatal(f"the model gives up: {frame.head['reason']}")
            if frame.op == "broken":
                link.discard("lost its device")
                raise ReplicaDied(f"lost its device: {frame.head['reason']}")
            return frame

    async def stop(self) -> None:
        """Every replica is gone when this returns, within about a second."""
        self._stopped = True
        self._freed.set()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in list(self._links)))

    # -- who serves

    async def _free_link(self) -> Link:
        while True:
            if self._failed.done():
                raise Fatal(str(self._failed.result()))
            if self._stopped:
                raise Fatal("the model host has been stopped")
            free = [link for link in self._serving if link.can_take]
            if free:
                return min(free, key=lambda link: link.load)
            self._freed.clear()
            await self._freed.wait()

    async def _first_start(self, assignment: Assignment) -> wire.Frame:
        link, frame = await self._start(assignment)
        self._serving.append(link)
        return frame

    async def _start(self, assignment: Assignment) -> tuple[Link, wire.Frame]:
        link = self._link(assignment)
        self._links.add(link)
        try:
            frame = await link.start(self._start_timeout_s)
        except TimedOut:
            await self._forget(link)
            limit = f"{self._start_timeout_s:g} s (model.start_timeout_s)"
            raise ModelError(f"model.factory {assignment.factory}: not loaded and warm within {limit}") from None
        except ReplicaDied as error:
            await self._forget(link)
            raise Fatal(f"{error} while it loaded {assignment.factory}; see the log") from None
        except PenstockError:
            await self._forget(link)
            raise
        log.info("%s replica %d serves", assignment.role, link.number, extra={"pid": link.pid, **_timing(frame)})
        return link, frame

    async def _forget(self, link: Link) -> None:
        await link.close()
        self._links.discard(link)

    async def _keep(self, link: Link) -> None:
        """Replace the replica whenever it ends, until that fails too often in a row."""
        failures = 0
        while True:
            reason = await asyncio.shield(link.ended)
            self._serving.remove(link)
            self._links.discard(link)
            log.warning("replica %d %s; starting another", link.number, reason)
            failures = failures + 1 if link.was_useless else 0
            try:
                link = await self._replacement(link.assignment, failures)
            except PenstockError as error:
                self._fail(Fatal(f"replica {reason}, and no other starts: {error}"))
                return
            self._serving.append(link)
            self._freed.set()
            self._on_event(ReplicaReplaced(reason))

    async def _replacement(self, assignment: Assignment, failures: int) -> Link:
        """The next replica, after as many failed starts as it takes; the last one's error if none is left to try."""
        error: PenstockError = Fatal("replicas end as soon as they have started")
        for delay_s in RESTART_DELAYS_S[failures:]:
            await asyncio.sleep(delay_s)
            try:
                return (await self._start(assignment))[0]
            except PenstockError as failure:
                log.error("a replica did not start: %s", failure)
                error = failure
        raise error

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_result(error)
        self._freed.set()


def _timing(frame: wire.Frame) -> dict[str, float]:
    return {"seconds": round(frame.head["seconds"], 3)}
