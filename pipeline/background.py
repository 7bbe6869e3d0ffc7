"""What runs in the background of a task, so that nothing of it dies unseen.

Whatever nobody awaits is started here, and nowhere else (``tests/unit/test_security.py``): its end is told, whatever
it died of. A coroutine that somebody awaits at once needs none of this; :func:`first_of` and ``asyncio.gather`` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pipeline.errors import Broken, Fatal, PenstockError, one_line

log = logging.getLogger("penstock")

T = TypeVar("T")

Work = Callable[[], Awaitable[object]]
OnFailure = Callable[[BaseException], object]

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What ``accept`` fails with while descriptors or memory are short. asyncio tries again every second by itself."""

_running: set[asyncio.Task[None]] = set()
"""An event loop holds its tasks by weak references only."""


def start(work: Work, *, name: str, on_failure: OnFailure, endless: bool = False) -> asyncio.Task[None]:
    """Run ``work()`` beside everything else. ``on_failure`` is called once, with a ``PenstockError``, if it ends by
    any exception, by a cancellation that nobody asked for, or at all if it is ``endless``. Cancel the task to end it.
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
        on_failure(Fatal(f"{name} was cancelled, and nobody had asked for it"))
    except PenstockError as error:
        on_failure(error)
    except BaseException as error:  # SystemExit would end the event loop, with an exit code of its own
        on_failure(_unforeseen(name, error))
        log.error("%s failed", name, exc_info=error)
    else:
        if endless:
            on_failure(Fatal(f"{name} ended by itself"))


def _asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def thread(work: Callable[[], object], *, name: str, on_failure: OnFailure) -> None:
    """Run ``work()`` in a daemon thread. ``on_failure`` is called in the event loop if it ends by any exception.

    ``RuntimeError`` if the system gives no thread.
    """
    loop = asyncio.get_running_loop()

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # as above
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(on_failure, _unforeseen(name, error))
            log.error("%s failed", name, exc_info=error)

    threading.Thread(target=guarded, name=name, daemon=True).start()


async def first_of(*works: Work, timeout_s: float | None = None) -> int | None:
    """Return which of them ended first, None if none did in time; raise what it raised. The others are cancelled."""
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
    """All their results, in order. Once one raises, the others are cancelled, and it is raised when they have ended."""
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
    """Of one task. ``failure`` resolves with the first thing that must end it; ``on_first`` is called with it then."""

    def __init__(self, on_first: OnFailure = lambda error: None) -> None:
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._on_first = on_first
        self._tasks: list[asyncio.Task[None]] = []
        self._shortages = 0

    def start(self, work: Work, name: str, *, endless: bool = True) -> None:
        """As :func:`start`; a failure is this task's. It runs until :meth:`stop`."""
        self._tasks.append(start(work, name=name, on_failure=self.failed, endless=endless))

    def failed(self, error: BaseException) -> None:
        """The task is to end with this error, unless it ends with an earlier one."""
        if not self.failure.done():
            self.failure.set_result(error)
            self._on_first(error)

    def raise_failure(self) -> None:
        """Raise what must end the task, if there is anything."""
        if self.failure.done():
            raise self.failure.result()

    async def failing(self) -> None:
        """Wait for what must end the task, and raise it."""
        raise await asyncio.shield(self.failure)

    async def stop(self) -> None:
        """Cancel all that was started; it has ended when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self) -> contextlib.ExitStack:
        """From now on until the answer is closed: what the event loop or a thread complains of ends the task."""
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
        """Of an exception in a callback or a protocol, or of one that nobody took."""
        error = context.get("exception")
        if error is None:
            log.error("the event loop complains: %s", context.get("message"))
        elif isinstance(error, OSError) and error.errno in SHORT and "accept" in context.get("message", ""):
            self._shortages += 1
            if self._shortages.bit_count() == 1:
                log.warning("a connection waits, since it cannot be accepted: %s (%d times)", error, self._shortages)
        elif isinstance(error, PenstockError):
            self.failed(error)
        else:
            self.failed(_unforeseen("the event loop", error))
            log.error("%s", context.get("message"), exc_info=error)


def _name(thread: threading.Thread | None) -> str:
    return "of unknown name" if thread is None else thread.name


def _unforeseen(name: str, error: BaseException) -> Broken:
    try:
        return Broken(f"{name} failed: {one_line(error)}")
    except Exception:  # noqa: BLE001  # an exception whose text raises
        return Broken(f"{name} failed: {type(error).__name__}")
