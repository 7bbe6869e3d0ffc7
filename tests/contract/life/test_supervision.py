"""If background work of a task fails, the task ends with the reason; a task that hangs is ended."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumer.app import Task
from consumer.config.load import parse
from consumer.config.settings import Settings
from consumer.kcl.bridge_server import BridgeServer
from consumer.leaving import Departure
from pipeline.errors import Fatal
from tests.support.hosts import ROOT
from tests.unit.config.test_config import LEAST

DEADLINE_S = 20.0
DEATHS = [RuntimeError("broken"), MemoryError(), OSError(errno.EMFILE, "Too many open files"), SystemExit(0)]
WATCHES = ["watch_shards", "watch_handoffs", "watch_leader"]


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
            self.settings, self.worker_id, self.aws, self.past, reader, background=self.background, asked=self.asked
        )
        return await self._consume(departure, bridges, Jvm(), None)  # type: ignore[arg-type]


class WithoutLeases(Departure):
    async def _free_and_read(self, *whatever: Any) -> None:
        """There are none."""


def settings() -> Settings:
    return parse(tomllib.loads(LEAST), {})


def ended(folder: Path, breaks: Callable[[Alone, BridgeServer], Awaitable[object]] | None = None) -> str:
    async def main() -> int:
        return await Alone(folder, breaks).run()

    with pytest.raises(Fatal) as raised:
        asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for watch in WATCHES:
        monkeypatch.setattr(f"consumer.watchers.Watchers.{watch}", partial(_for_ever))
    monkeypatch.setattr("consumer.poison.way_past.WayPast.note_end", _for_now)


async def _for_ever(*whatever: Any) -> None:
    await asyncio.Event().wait()


async def _for_now(*whatever: Any) -> None:
    return


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: type(death).__name__)
@pytest.mark.parametrize("watch", WATCHES)
def test_a_watch_that_dies_ends_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: str, death: BaseException
) -> None:
    async def dies(*whatever: Any) -> None:
        await asyncio.sleep(0)
        raise death

    monkeypatch.setattr(f"consumer.watchers.Watchers.{watch}", dies)
    reason = ended(tmp_path)
    assert reason.startswith(f"the watcher of the {watch.partition('_')[2]} ") and type(death).__name__ in reason


@pytest.mark.parametrize("watch", WATCHES)
def test_a_watch_that_just_ends_ends_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: str) -> None:
    monkeypatch.setattr(f"consumer.watchers.Watchers.{watch}", _for_now)
    assert ended(tmp_path).endswith("ended by itself")


def test_a_session_that_dies_ends_the_task(tmp_path: Path) -> None:
    async def breaks(task: Alone, bridges: BridgeServer) -> None:
        bridges._fail(Fatal("session of shardId-1 failed: MemoryError"))  # as a session would have it

    assert ended(tmp_path, breaks) == "session of shardId-1 failed: MemoryError"


def test_an_exception_in_a_callback_ends_the_task(tmp_path: Path) -> None:
    async def breaks(task: Alone, bridges: BridgeServer) -> None:
        def broken() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        asyncio.get_running_loop().call_later(0.01, broken)

    assert "Too many open files" in ended(tmp_path, breaks)


def test_the_first_reason_is_reported_despite_later_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = BridgeServer.close

    async def fails(bridges: BridgeServer) -> None:
        await close(bridges)
        raise OSError(errno.EMFILE, "Too many open files")

    async def breaks(task: Alone, bridges: BridgeServer) -> None:
        task.background.failed(Fatal("first"))

    monkeypatch.setattr(BridgeServer, "close", fails)
    assert ended(tmp_path, breaks) == "first"


HANGS = """
import asyncio, sys
from pathlib import Path
from tests.contract.life import test_supervision as it
from consumer import app, logs
from consumer.config import drain
how, folder = sys.argv[1], Path(sys.argv[2])
logs.configure("INFO", "auto")
app.GIVE_UP_S = 0.5
drain.LEAVE_S = 0.5

class Hangs(it.Alone):
    async def _run(self, stack):
        async def hang():
            await asyncio.Event().wait()
        stack.push_async_callback(hang)
        print("here", flush=True)
        if how == "fails":
            raise it.Fatal("first")
        await asyncio.Event().wait() if how == "deaf" else await self.leaving.wait()
        return 0

task = Hangs(folder)
object.__setattr__(task.settings.drain, "budget_s", 0.5)
sys.exit(asyncio.run(task.run()))
"""


@pytest.mark.parametrize("how", ["leaves", "deaf", "fails"])
def test_a_task_that_hangs_at_its_end_is_ended_with_the_reason(tmp_path: Path, how: str) -> None:
    environment = {**os.environ, "AWS_REGION": "us-east-1"}
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, how, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"here\n"
        if how != "fails":
            process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 1
        last = process.stderr.read().splitlines()[-1].decode()
    assert "ended by force" in last
    assert ("first" if how == "fails" else "asked to leave") in last
