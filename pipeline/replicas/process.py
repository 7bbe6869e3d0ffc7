"""The host's end of one replica: its process, its socket, its log, and the time limit of its requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import background
from pipeline.errors import Fatal, PenstockError, ReplicaDied, one_line
from pipeline.model_process import frames
from pipeline.model_process.assignment import Assignment
from pipeline.replicas import answers
from pipeline.replicas.environment import command, environment
from pipeline.replicas.frame_protocol import FrameProtocol
from pipeline.replicas.process_watch import LogLines, ProcessWatch

log = logging.getLogger("replica")

DEPTH = 2
"""Requests for each replica: the one in work and the next one, so that the replica never waits for the host."""

AHEAD_BYTES = 1024 * 1024
"""Size of the socket's buffers in each direction, if the kernel allows it (net.core.wmem_max): fewer pieces of a
frame mean fewer wake-ups.
"""

CLOSE_S = 2.0
"""Seconds that a model's ``close`` may take; included in ``consumer.config.drain.LEAVE_S``."""

LAST_WORDS_S = 1.0
"""Seconds that the streams are read after the process has ended: its last answers and log lines still count."""


class TimedOut(ReplicaDied):
    """The host killed the replica because its request took too long."""


class Unbegun(Exception):
    """The replica ended before it began with this request. Nothing is known about the request: send it to another
    replica.
    """


class _Request:
    __slots__ = ("answer", "seal", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.seal = frames.new_seal()
        self.answer: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()


class ReplicaProcess:
    """One replica, from its start to its end. Use it from the event loop's thread, which must outlive it.

    ``ended`` resolves with the reason once the process is reaped and every request is answered: ``killed by signal
    11``, ``exited with code 3``, ``timed out after 120 s``.
    """

    def __init__(self, assignment: Assignment, body_limit: int = frames.BODY_LIMIT_BYTES) -> None:
        """``body_limit``: bytes of the largest accepted answer. A batch whose rows are larger is tried in parts."""
        self._body_limit = body_limit
        self.number = assignment.number
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.was_useless = False
        """Whether it ended by itself while idle, before it had answered any request."""
        self.assignment = assignment
        self.held = False
        """Whether it only takes requests from the holder (:meth:`pipeline.replicas.pool.Pool.held`)."""
        self.calls = self.passes = 0
        """``calls``: answers since it was loaded. ``passes``: those in which a record passed. The pool counts them."""
        self.is_well = True
        """False after a failed request, until another request passes."""
        self._requests: deque[_Request] = deque()
        self._clock: asyncio.TimerHandle | None = None
        self._verdict: ReplicaDied | None = None
        self._innocent = False
        self._answers = 0
        self._open_streams = 2
        self._streams_ended = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._closes = False
        self._transport: asyncio.Transport | None = None
        self._log: asyncio.BaseTransport | None = None

    @property
    def pid(self) -> int | None:
        """Id of the process that holds the model; None before it is loaded."""
        return self._pid

    @property
    def load(self) -> int:
        """Number of requests that were sent and are not answered."""
        return len(self._requests)

    @property
    def can_take(self) -> bool:
        """Whether it is alive, not held, and has fewer than :data:`DEPTH` requests."""
        return self.can_serve and not self.held and self.load < DEPTH

    @property
    def can_serve(self) -> bool:
        """Whether it is alive and not about to end."""
        return not self.ended.done() and self._verdict is None

    async def start(self, timeout_s: float) -> answers.Ready:
        """Start the process, load the model and warm it up.

        :raises ModelError: the model cannot be used.
        :raises ReplicaDied: the process ended while it loaded.
        :raises TimeoutError: it took longer than ``timeout_s``.
        """
        await self._spawn()
        settings = pickle.dumps(self.assignment)
        frame = await self._send(frames.pack("start", body=[settings]), timeout_s)
        try:
            if frame.op == "unusable":
                raise answers.unusable(frame)
            ready = answers.ready(frame)
        except frames.Garbage as garbage:
            raise self.spoilt(garbage) from None
        self._pid, self._closes = ready.pid, ready.closes
        return ready

    async def ask(self, op: str, payloads: Sequence[bytes], timeout_s: float) -> frames.Frame:
        """Send a request and wait for the answer. ``timeout_s`` counts from when the replica can begin with this
        request.

        :raises ReplicaDied: it ended during this request.
        :raises Unbegun: it ended before it began with this request.
        """
        return await self._send(frames.pack_payloads(op, payloads), timeout_s)

    def kill(self, verdict: ReplicaDied | None = None) -> None:
        """Kill it and all processes that it started. ``verdict``: the reason, if not the one in its exit status."""
        self._verdict = self._verdict or verdict
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._process.pid, signal.SIGTERM)

    def spoilt(self, garbage: frames.Garbage) -> ReplicaDied:
        """Kill it because its answer was garbage. Return the error for the request."""
        verdict = ReplicaDied(f"sent {garbage}")
        self.kill(verdict)
        return verdict

    def discard(self, reason: str) -> None:
        """End it for a reason that it reported or that lies outside it; open requests are not to blame."""
        self._innocent = True
        self.kill(ReplicaDied(reason))

    async def close(self) -> None:
        """End it and wait for its end. A model with a ``close`` is called first, after its present request."""
        if self._process is not None:
            if self._closes and self.can_serve:
                with contextlib.suppress(TimeoutError, PenstockError, Unbegun):
                    async with asyncio.timeout(CLOSE_S):
                        await self._send(frames.pack("close"), CLOSE_S)
            self.discard("stopped")
            await asyncio.shield(self.ended)

    # -- its process

    async def _spawn(self) -> None:
        """Start the process.

        :raises Fatal: the system lacks descriptors, processes, threads or memory; a later try may succeed.
        """
        try:
            with contextlib.ExitStack() as stack:
                await self._begin(stack)
        except (OSError, RuntimeError, MemoryError) as error:
            raise Fatal(f"a replica cannot be started: {one_line(error)}") from error

    async def _begin(self, stack: contextlib.ExitStack) -> None:
        """Start the process and its watch without awaiting in between: so a cancelled start is closed like any
        other.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        given_up = stack.enter_context(contextlib.ExitStack())  # what to close if no process is started
        given_up.callback(ours.close)
        stack.callback(theirs.close)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AHEAD_BYTES)
        read_end, write_end = os.pipe()
        stack.callback(os.close, write_end)
        lines = given_up.enter_context(os.fdopen(read_end, "rb", buffering=0))
        given_up.callback(self._close_streams)
        self._log, _ = await loop.connect_read_pipe(lambda: LogLines(self.number, self._stream_over), lines)
        ours.setblocking(False)
        protocol = FrameProtocol(self._answered, self._garbage, self._stream_over, self._body_limit)
        self._transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        watch = ProcessWatch(loop, self._exited)
        given_up.callback(watch.give_up)
        self._process = subprocess.Popen(  # noqa: ASYNC220  # a vfork: the slow part happens in the child
            command(self.assignment.search_path, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            env=environment(os.environ, self.assignment),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        given_up.pop_all()
        watch.begin(self._process)

    def _exited(self, status: int) -> None:
        self._verdict = self._verdict or ReplicaDied(_reason(status))
        background.start(partial(self._end, self._verdict), name="the end of a replica", on_failure=self._ended_badly)

    def _ended_badly(self, error: BaseException) -> None:
        """Report the end to all that wait for it, also if its handling failed."""
        for request in self._requests:
            if not request.answer.done():
                request.answer.set_exception(Fatal(str(error)))
        if not self.ended.done():
            self.ended.set_exception(Fatal(str(error)))

    async def _end(self, verdict: ReplicaDied) -> None:
        """Read the last answers, then fail the requests that remain."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._streams_ended.wait()
        finally:
            self._close_streams()
        self._stop_clock()
        self.was_useless = not self._requests and not self._innocent and self._answers <= 1
        for place, request in enumerate(self._requests):
            if not request.answer.done():
                request.answer.set_exception(Unbegun() if place or self._innocent else verdict)
        self._requests.clear()
        self.ended.set_result(verdict.reason)

    def _close_streams(self) -> None:
        for transport in (self._transport, self._log):
            if transport is not None:
                transport.close()

    # -- its requests

    async def _send(self, chunks: list[Any], timeout_s: float) -> frames.Frame:
        assert self._transport is not None
        if self.ended.done():
            raise Unbegun
        request = _Request(timeout_s)
        self._requests.append(request)
        if len(self._requests) == 1:
            self._start_clock()
        self._transport.writelines(frames.sealed(chunks, request.seal))
        return await request.answer

    def _answered(self, frame: frames.Frame) -> None:
        if not self._requests:
            self.kill(ReplicaDied("answered without a request"))
            return
        if frame.seal != self._requests[0].seal:
            self.kill(ReplicaDied("answered without a request"))
            return
        request = self._requests.popleft()
        self._answers += 1
        self._start_clock()
        if not request.answer.done():
            request.answer.set_result(frame)

    def _garbage(self, error: frames.Garbage) -> None:
        self.kill(ReplicaDied(f"sent {error}"))

    def _stream_over(self) -> None:
        """Kill a replica that has closed its streams: it cannot be used any more."""
        self._open_streams -= 1
        if not self._open_streams:
            self._streams_ended.set()
            self.kill()

    def _start_clock(self) -> None:
        """Start the time limit of the request that is now first."""
        self._stop_clock()
        if self._requests:
            timeout_s = self._requests[0].timeout_s
            verdict = TimedOut(f"timed out after {timeout_s:g} s")
            self._clock = asyncio.get_running_loop().call_later(timeout_s, self.kill, verdict)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _reason(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exited with code {status}"
