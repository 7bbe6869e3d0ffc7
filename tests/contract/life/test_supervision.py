"""If background work of a task fails, the task ends with the reason; a task that hangs is ended."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumer.kcl.bridge_server import BridgeServer
from pipeline.errors import Fatal
from tests.support.forks import FORKS
from tests.support.lone_task import Alone, hangs

DEADLINE_S = 20.0
DEATHS = [RuntimeError("broken"), MemoryError(), OSError(errno.EMFILE, "Too many open files"), SystemExit(0)]
WATCHES = ["watch_shards", "watch_handoffs", "watch_leader"]


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
    monkeypatch.setattr("consumer.poison.careful_readings.CarefulReadings.note_end", _for_now)


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


@pytest.mark.parametrize("how", ["leaves", "deaf", "fails"])
def test_a_task_that_hangs_at_its_end_is_ended_with_the_reason(tmp_path: Path, how: str) -> None:
    here, there = FORKS.Pipe(duplex=False)
    task = FORKS.Process(target=hangs, args=(how, tmp_path, there))
    task.start()
    assert here.poll(DEADLINE_S) and here.recv() == "here"
    if how != "fails":
        assert task.pid is not None
        os.kill(task.pid, signal.SIGTERM)
    task.join(DEADLINE_S)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert task.exitcode == 1, last
    assert "ended by force" in last
    assert ("first" if how == "fails" else "asked to leave") in last
