"""A task with only its watchers, its bridges and a JVM that does nothing; and functions for processes that run one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from consumer import app, logs
from consumer.app import Task
from consumer.config import drain
from consumer.config.load import parse
from consumer.config.settings import Settings
from consumer.kcl.bridge_server import BridgeServer
from consumer.leaving import Departure
from pipeline.errors import Fatal

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
"""From unshare(2), mount(2) and prctl(2)."""


class Jvm:
    """Runs until it is killed, and never drains."""

    failure: BaseException | None = None

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        return -9

    async def check_aggregator(self, reads: Callable[[], bool]) -> None:
        await asyncio.Event().wait()

    def kill(self) -> None:
        self._ended.set()

    def terminate(self) -> None:
        """Nobody answers."""


class Alone(Task):
    """A task with only its watchers, its bridges and a JVM."""

    def __init__(self, folder: Path, breaks: Callable[[Alone, BridgeServer], Awaitable[object]] | None = None) -> None:
        super().__init__(settings())
        self._folder = folder
        self._breaks = breaks

    async def _run(self, stack: AsyncExitStack) -> int:
        bridges = BridgeServer(lambda wire: None)  # type: ignore[arg-type, return-value]  # none comes
        await bridges.listen(self._folder / "s")
        stack.push_async_callback(bridges.close)
        self.background.start(self.watchers.watch_leader, "the watcher of the leader")
        if self._breaks is not None:
            await self._breaks(self, bridges)
        reader: Any = None
        departure = WithoutLeases(
            self.settings,
            self.worker_id,
            self.aws,
            self.careful_readings,
            reader,
            background=self.background,
            asked=self.asked,
        )
        return await self._consume(departure, bridges, Jvm(), None)  # type: ignore[arg-type]


class WithoutLeases(Departure):
    async def _free_and_read(self, *whatever: Any) -> None:
        """There are none."""


def settings() -> Settings:
    return parse(
        {
            "stream": {"name": "events", "application": "penstock-events"},
            "model": {"factory": "examples.minilm:MiniLM", "version": "1"},
            "sink": [{"type": "parquet", "url": "s3://bucket/enriched"}],
            "dead_letter": {"url": "s3://bucket/dead-letter"},
        },
        {},
    )


class Hangs(Alone):
    """Never closes what it has opened. ``how``: it fails, it leaves when it is asked to, or it does not listen."""

    def __init__(self, folder: Path, how: str, here: Callable[[], object]) -> None:
        super().__init__(folder)
        self._how, self._here = how, here

    async def _run(self, stack: AsyncExitStack) -> int:
        stack.push_async_callback(_for_ever)
        self._here()
        if self._how == "fails":
            raise Fatal("first")
        await (_for_ever() if self._how == "deaf" else self.leaving.wait())
        return 0


class Waits(Alone):
    """Starts again at once, and then waits until it is asked to leave."""

    count = 0

    def __init__(self, folder: Path, here: Callable[[], object]) -> None:
        super().__init__(folder)
        self._here = here

    async def _run(self, stack: AsyncExitStack) -> int:
        Waits.count += 1
        if Waits.count == 1:
            return app.AGAIN
        self._here()
        await self.leaving.wait()
        return 0


async def _for_ever() -> None:
    await asyncio.Event().wait()


def hangs(how: str, folder: Path, connection: Any) -> None:
    """Runs in a separate process. Sends ``here`` once it runs; what it logs is in ``folder``."""
    os.environ["AWS_REGION"] = "us-east-1"
    with (folder / "log").open("w") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    logs.configure("INFO", "auto")
    app.GIVE_UP_S = drain.LEAVE_S = 0.5
    task = Hangs(folder, how, lambda: connection.send("here"))
    object.__setattr__(task.settings.drain, "budget_s", 0.5)
    sys.exit(asyncio.run(task.run()))


def waits(as_pid_one: bool, connection: Any) -> None:
    """Runs in a separate process. Sends the process id of the task, and ``here`` once it runs."""
    os.environ["AWS_REGION"] = "us-east-1"
    if as_pid_one:
        _become_pid_one(connection)
    else:
        connection.send(os.getpid())

    def made(settings: Settings, signals: Any) -> Task:
        task = Waits(Path("."), lambda: connection.send("here"))
        task.signals = signals
        return task

    app.Task = made  # type: ignore[assignment, misc]
    sys.exit(app.run(settings()))


def _become_pid_one(connection: Any) -> None:
    """Go on as PID 1 of a new namespace with its own ``/proc``. The process before waits for it, and ends as it does.

    As unshare(1) does it with ``--pid --fork --mount-proc --kill-child``.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> None:
        if getattr(library, name)(*arguments):
            raise OSError(ctypes.get_errno(), name)

    call("unshare", CLONE_NEWPID | CLONE_NEWNS)
    if pid := os.fork():
        connection.send(pid)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert os.getpid() == 1
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", 0, None)
