"""Starts tasks and threads that run in the background, so that none of them ends unnoticed.

Everything that is not awaited is started here, and nowhere else (``tests/unit/test_security.py``): its end is reported,
whatever the cause. A coroutine that is awaited at once does not need this; :func:`first_of` and ``asyncio.gather``
await.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pipeline.errors import Broken, Fatal, PenstockError, one_line

log = logging.getLogger("penstock")

T = TypeVar("T")

Work = Callable[[], Awaitable[object]]
OnFailure = Callable[[BaseException], object]

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of ``accept`` while file descriptors or memory are short. asyncio itself retries every second."""

_running: set[asyncio.Task[None]] = set()
"""Keeps references: an event loop references its tasks only weakly."""


def start(work: Work, *, name: str, on_failure: OnFailure, endless: bool = False) -> asyncio.Task[None]:
    """Run ``work()`` in a task. Cancel the task to end it.

    ``on_failure`` is called once, with a ``PenstockError``, if it ends by an exception, by a cancellation that no code
    requested, or, if ``endless``, in any way.
    """
    task = asyncio.get_running_loop().create_task(_guarded(work, name, on_failure, endless), name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def _guarded(work: Work, name: str, on_failure: OnFailure, endless: bool) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        if _asked_to_end():
            raise
        on_failure(Fatal(f"{name} was cancelled unexpectedly"))
    except PenstockError as error:
        on_failure(error)
    except BaseException as error:  # SystemExit would end the event loop with its own exit code
        on_failure(_unforeseen(name, error))
        log.error("%s failed", name, exc_info=error)
    else:
        if endless:
            on_failure(Fatal(f"{name} ended by itself"))


def _asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class StartThread(Protocol):
    """Starts what may block, as :func:`thread` does."""

    def __call__(self, work: Callable[[], object], *, name: str, on_failure: OnFailure) -> None:
        """Run ``work()`` beside the event loop."""


def thread(work: Callable[[], object], *, name: str, on_failure: OnFailure) -> None:
    """Run ``work()`` in a daemon thread. ``on_failure`` is called in the event loop if it ends by an exception.

    :raises RuntimeError: the system has no thread left.
    """
    loop = asyncio.get_running_loop()

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # as above
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
                loop.call_soon_threadsafe(on_failure, _unforeseen(name, error))
            log.error("%s failed", name, exc_info=error)

    threading.Thread(target=guarded, name=name, daemon=True).start()


async def first_of(*works: Work, timeout_s: float | None = None) -> int | None:
    """Return the index of the one that ended first, or None after ``timeout_s``; raise what it raised. The others
    are cancelled.
    """
    tasks = [asyncio.ensure_future(_awaited(work)) for work in works]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for place, task in enumerate(tasks):
            if task.done():
                await task
                return place
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(*works: Callable[[], Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results, in order. If one raises, cancel the others, wait for their end, and raise its error."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _awaited(work: Work) -> None:
    await work()


class Background:
    """The background work of one task. ``failure`` resolves with the first error that must end the task;
    ``on_first`` is called with it.
    """

    def __init__(self, on_first: OnFailure = lambda error: None) -> None:
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._on_first = on_first
        self._tasks: list[asyncio.Task[None]] = []
        self._shortages = 0

    def start(self, work: Work, name: str, *, endless: bool = True) -> None:
        """As :func:`start`; a failure ends the task. The work runs until :meth:`stop`."""
        self._tasks.append(start(work, name=name, on_failure=self.failed, endless=endless))

    def failed(self, error: BaseException) -> None:
        """End the task with this error, unless an earlier error ends it already."""
        if not self.failure.done():
            self.failure.set_result(error)
            self._on_first(error)

    def raise_failure(self) -> None:
        """Raise the error that must end the task, if there is one."""
        if self.failure.done():
            raise self.failure.result()

    async def failing(self) -> None:
        """Wait for the error that must end the task, and raise it."""
        raise await asyncio.shield(self.failure)

    async def stop(self) -> None:
        """Cancel everything that was started, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self) -> contextlib.ExitStack:
        """Let unhandled errors of the event loop and of threads end the task, until the returned stack is closed."""
        loop = asyncio.get_running_loop()
        before, loop_before = threading.excepthook, loop.get_exception_handler()

        def of_thread(args: threading.ExceptHookArgs) -> None:
            before(args)
            error = args.exc_value or args.exc_type()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.failed, _unforeseen(f"thread {_name(args.thread)}", error))

        threading.excepthook = of_thread
        loop.set_exception_handler(self._complaint)
        stack = contextlib.ExitStack()
        stack.callback(setattr, threading, "excepthook", before)
        stack.callback(loop.set_exception_handler, loop_before)
        return stack

    def _complaint(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception in a callback or protocol, or one that was never retrieved."""
        error = context.get("exception")
        if error is None:
            log.error("the event loop reported: %s", context.get("message"))
        elif isinstance(error, OSError) and error.errno in SHORT and "accept" in context.get("message", ""):
            self._shortages += 1
            if self._shortages.bit_count() == 1:
                log.warning("a connection cannot be accepted yet: %s (%d times)", error, self._shortages)
        elif isinstance(error, PenstockError):
            self.failed(error)
        else:
            self.failed(_unforeseen("the event loop", error))
            log.error("%s", context.get("message"), exc_info=error)


def _name(thread: threading.Thread | None) -> str:
    return "without a name" if thread is None else thread.name


def _unforeseen(name: str, error: BaseException) -> Broken:
    try:
        return Broken(f"{name} failed: {one_line(error)}")
    except Exception:  # noqa: BLE001  # an exception whose text raises
        return Broken(f"{name} failed: {type(error).__name__}")
