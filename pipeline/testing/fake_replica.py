"""A replica without a process: the model's own code runs in this process, and takes as much time as the test says."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import ReplicaDied
from pipeline.model_process import frames
from pipeline.model_process.assignment import Assignment
from pipeline.model_process.starting import start
from pipeline.model_process.worker import RequestHandler
from pipeline.replicas import answers
from pipeline.replicas.process import ReplicaProcess, TimedOut, Unbegun

FOREVER = math.inf


class FakeReplica(ReplicaProcess):
    """Pass it to :class:`pipeline.replicas.host.ModelHost` as ``link=partial(FakeReplica, ...)``.

    ``seconds`` returns how long it works on these payloads (:data:`FOREVER`: it hangs). ``ends`` returns why it dies
    over them, such as ``killed by signal 11``, or an empty text. It decodes, predicts and makes rows like a real
    replica, but has no process, socket or log.
    """

    def __init__(
        self,
        assignment: Assignment,
        *,
        seconds: Callable[[Sequence[bytes]], float] = lambda payloads: 0.0,
        ends: Callable[[Sequence[bytes]], str] = lambda payloads: "",
    ) -> None:
        super().__init__(assignment)
        self._seconds = seconds
        self._ends = ends
        self._asked: deque[tuple[str, Sequence[bytes], float, asyncio.Future[frames.Frame]]] = deque()
        self._has_work = asyncio.Event()
        self._work: RequestHandler | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """A made-up process id; None before it is loaded."""
        return None if self._serving is None else self.number + 1

    @property
    def load(self) -> int:
        """Number of requests that are not answered."""
        return len(self._asked)

    async def start(self, timeout_s: float) -> answers.Ready:
        """Find, load and warm up the model, in this process and without a memory limit. ``timeout_s`` is ignored.

        :raises ModelError: the model cannot be used.
        """
        answer, self._work = start(replace(self.assignment, memory_mib=0))  # a limit would apply to this process
        frame = _frame(answer)
        if frame.op == "unusable":
            raise answers.unusable(frame)
        self._serving = asyncio.create_task(self._serve())
        ready = answers.ready(frame)
        self._closes = ready.closes
        return ready

    async def ask(self, op: str, payloads: Sequence[bytes], timeout_s: float) -> frames.Frame:
        """Queue a request and wait for the answer. See :meth:`ReplicaProcess.ask`."""
        if self.ended.done():
            raise Unbegun
        answer: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()
        self._asked.append((op, payloads, timeout_s, answer))
        self._has_work.set()
        return await answer

    def kill(self, verdict: ReplicaDied | None = None) -> None:
        """End it. The first request fails with ``verdict``; the others with :class:`Unbegun`."""
        self._finish(verdict or ReplicaDied("killed by signal 9"))

    def discard(self, reason: str) -> None:
        """End it; every open request fails with :class:`Unbegun`."""
        self._finish(ReplicaDied(reason), innocent=True)

    async def close(self) -> None:
        """End it, after the model's ``close`` if it has one."""
        if self._closes and self._work is not None and self.can_serve:
            self._work.answer(_frame(frames.pack("close")))
        self.discard("stopped")

    def _finish(self, verdict: ReplicaDied, *, innocent: bool = False) -> None:
        if self.ended.done():
            return
        for place, (_, _, _, answer) in enumerate(self._asked):
            if not answer.done():
                answer.set_exception(Unbegun() if place or innocent else verdict)
        self._asked.clear()
        self.ended.set_result(verdict.reason)
        if self._serving is not None:
            self._serving.cancel()

    async def _serve(self) -> None:
        """Answer one request after the other."""
        assert self._work is not None
        while True:
            while not self._asked:
                self._has_work.clear()
                await self._has_work.wait()
            op, payloads, timeout_s, answer = self._asked[0]
            seconds = self._seconds(payloads)
            await asyncio.sleep(min(seconds, timeout_s))
            if seconds > timeout_s:
                self.kill(TimedOut(f"timed out after {timeout_s:g} s"))
            elif reason := self._ends(payloads):
                self.kill(ReplicaDied(reason))
            else:
                frame = _frame(self._work.answer(_frame(frames.pack_payloads(op, payloads))))
                if "seconds" in frame.head:
                    frame.head["seconds"] = seconds  # by the event loop's clock
                self._asked.popleft()
                if not answer.done():
                    answer.set_result(frame)


def _frame(chunks: Sequence[Any]) -> frames.Frame:
    """The frame that the other end of a socket would receive."""
    assembler = frames.Assembler()
    data = memoryview(b"".join(chunks))
    while data:
        space = assembler.space()
        size = min(len(space), len(data))
        space[:size] = data[:size]
        data = data[size:]
        if frame := assembler.wrote(size):
            return frame
    raise frames.Garbage("half a frame")
