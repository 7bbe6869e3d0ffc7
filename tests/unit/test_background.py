"""No background work ends unnoticed: its end is reported once, as a reason to end the task."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from pipeline import background
from pipeline.background import Background
from pipeline.errors import Fatal, PenstockError, UserError


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


DEATHS: list[BaseException] = [
    RuntimeError("broken"),
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    SystemExit(0),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("several", [RuntimeError("one"), KeyboardInterrupt()]),
    asyncio.CancelledError(),
    Unspeakable(),
]


def lived(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 5))


async def dying(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("error", DEATHS, ids=lambda error: type(error).__name__)
def test_every_cause_of_its_end_is_reported(error: BaseException) -> None:
    async def main() -> list[BaseException]:
        told: list[BaseException] = []
        task = background.start(partial(dying, error), name="the pump", on_failure=told.append)
        await asyncio.wait([task])
        return told

    [told] = lived(main)
    assert isinstance(told, Fatal)
    assert str(told).startswith("the pump ")
    assert "\n" not in str(told)


@pytest.mark.parametrize("error", DEATHS, ids=lambda error: type(error).__name__)
def test_every_cause_of_a_threads_end_is_reported(error: BaseException) -> None:
    async def main() -> BaseException:
        told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        def die() -> None:
            raise error

        background.thread(die, name="the watch", on_failure=told.set_result)
        return await told

    assert str(lived(main)).startswith("the watch failed: ")


def test_a_penstock_error_is_reported_unchanged() -> None:
    reason = UserError("make room")

    async def main() -> list[BaseException]:
        told: list[BaseException] = []
        await asyncio.wait([background.start(partial(dying, reason), name="the pump", on_failure=told.append)])
        return told

    assert lived(main) == [reason]


@pytest.mark.parametrize(("endless", "told"), [(True, ["the pump ended by itself"]), (False, [])])
def test_endless_work_has_failed_when_it_ends(endless: bool, told: list[str]) -> None:
    async def main() -> list[str]:
        heard: list[str] = []
        task = background.start(
            partial(asyncio.sleep, 0),
            name="the pump",
            on_failure=lambda error: heard.append(str(error)),
            endless=endless,
        )
        await asyncio.wait([task])
        return heard

    assert lived(main) == told


def test_cancelled_work_has_not_failed() -> None:
    async def main() -> list[BaseException]:
        told: list[BaseException] = []
        task = background.start(asyncio.Event().wait, name="the pump", on_failure=told.append, endless=True)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return told

    assert lived(main) == []


def test_running_work_is_not_garbage_collected() -> None:
    async def main() -> list[str]:
        heard: list[str] = []

        async def wait(event: asyncio.Event) -> None:
            await event.wait()
            heard.append("went on")
            over.set()

        event, over = asyncio.Event(), asyncio.Event()
        background.start(partial(wait, event), name="the pump", on_failure=lambda error: None)
        await asyncio.sleep(0)
        gc.collect()
        event.set()
        async with asyncio.timeout(10):
            await over.wait()
        return heard

    assert lived(main) == ["went on"]


# -- of a task


def failure_of(break_something: Callable[[], Awaitable[object] | None]) -> PenstockError:
    """The error that ends the task."""

    async def main() -> PenstockError:
        owner = Background()
        with owner.listen():
            waits = break_something()
            if waits is not None:
                await waits
            gc.collect()
            with pytest.raises(PenstockError) as raised:
                await owner.failing()
        return raised.value

    return lived(main)  # type: ignore[no-any-return]


def breaks(error: BaseException) -> None:
    raise error


def test_an_exception_in_a_callback_ends_the_task() -> None:
    async def call() -> None:
        asyncio.get_running_loop().call_soon(breaks, RuntimeError("broken"))

    failure = failure_of(call)
    assert str(failure) == "the event loop failed: RuntimeError: broken"


def test_an_exception_that_was_never_retrieved_ends_the_task() -> None:
    async def forget() -> None:
        asyncio.get_running_loop().create_task(dying(RuntimeError("forgotten")))  # that is the point
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert str(failure_of(forget)) == "the event loop failed: RuntimeError: forgotten"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_a_librarys_that_dies_ends_the_task() -> None:
    failure = failure_of(lambda: threading.Thread(target=breaks, args=[RuntimeError("broken")], name="x").start())
    assert str(failure) == "thread x failed: RuntimeError: broken"


def test_an_exception_in_a_protocol_ends_the_task() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("broken")

    async def speak() -> None:
        server = await asyncio.get_running_loop().create_server(Broken, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        server.close()

    assert str(failure_of(speak)) == "the event loop failed: RuntimeError: broken"


def test_a_connection_that_cannot_be_accepted_waits_and_few_lines_say_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> bool:
        owner = Background()
        with owner.listen():
            for _ in range(100):
                asyncio.get_running_loop().call_exception_handler(
                    {
                        "message": "socket.accept() out of system resource",
                        "exception": OSError(errno.EMFILE, "Too many open files"),
                    }
                )
        return owner.failure.done()

    assert not lived(main)
    assert len(caplog.records) == 7


def test_the_first_failure_counts_and_is_reported_once() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        owner = Background(lambda error: told.append(str(error)))
        owner.failed(Fatal("first"))
        owner.failed(Fatal("second"))
        with pytest.raises(Fatal, match="first"):
            owner.raise_failure()
        return told

    assert lived(main) == ["first"]


# -- what is awaited


def test_the_first_to_end_is_returned_and_the_others_are_cancelled() -> None:
    async def main() -> int | None:
        over = asyncio.Event()

        async def slow() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                over.set()

        first = await background.first_of(slow, partial(asyncio.sleep, 0))
        assert over.is_set()
        return first

    assert lived(main) == 1


def test_none_is_first_when_time_is_up() -> None:
    assert lived(partial(background.first_of, asyncio.Event().wait, timeout_s=0.01)) is None


@pytest.mark.parametrize("wait", [background.first_of, background.all_of])
def test_the_error_of_one_is_raised(wait: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        lived(partial(wait, partial(dying, RuntimeError("broken")), asyncio.Event().wait))
