"""The duties of PID 1 in a container: to reap the processes that it adopts, and to handle signals that ask
it to leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from tests.support.forks import FORKS
from tests.support.hosts import ROOT
from tests.support.lone_task import waits

DEADLINE_S = 20.0

ADOPTS = """
import asyncio, ctypes, os, subprocess, sys
from pipeline import reaper

ORPHANS = '''
import os, time
for _ in range(5):
    if pid := os.fork():
        print(pid, flush=True)
    else:
        time.sleep(0.2)
        os._exit(3)
'''

async def main():
    assert not reaper.adopts() or os.getpid() == 1
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    assert reaper.adopts()
    reaping = asyncio.create_task(reaper.reap(0.1))
    slow = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
    reaper.awaits(slow.pid)
    leaves = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHANS, stdout=subprocess.PIPE)
    said, _ = await leaves.communicate()
    assert leaves.returncode == 0
    orphans = {int(pid) for pid in said.split()}
    assert len(orphans) == 5
    quick = [await asyncio.create_subprocess_exec(sys.executable, "-c", f"raise SystemExit({n})") for n in range(1, 9)]
    assert [await process.wait() for process in quick] == list(range(1, 9))
    for _ in range(200):
        left = {pid for pid in orphans if os.path.exists(f"/proc/{pid}")}
        if not left:
            break
        await asyncio.sleep(0.05)
    assert not left, left
    assert {each.pid for each in reaper.zombies()} == {slow.pid}
    assert slow.wait() == 5  # its status was not stolen
    assert reaper.zombies() == []

asyncio.run(main())
"""


def test_orphans_are_reaped_and_no_status_is_stolen() -> None:
    subprocess.run([sys.executable, "-c", ADOPTS], cwd=ROOT, check=True, timeout=DEADLINE_S)


IMPORTS = """
import time
import click
from consumer.cli import main

@click.command()
def waits():
    print("here", flush=True)
    time.sleep(60)

main.add_command(waits)
main(["waits"])
"""


def namespaces() -> list[str]:
    """The command that makes a process PID 1; empty if that is not permitted."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        return []
    return command


NAMESPACES = namespaces()
NO_NAMESPACES = pytest.mark.skipif(not NAMESPACES, reason="no PID namespace here")


@pytest.mark.parametrize("as_pid_one", [False, pytest.param(True, marks=NO_NAMESPACES)], ids=["as another", "as PID 1"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_leaves_when_it_is_asked_to(as_pid_one: bool, number: int) -> None:
    here, there = FORKS.Pipe(duplex=False)
    task = FORKS.Process(target=waits, args=(as_pid_one, there))
    task.start()
    try:
        assert here.poll(DEADLINE_S)
        pid = here.recv()
        assert here.poll(DEADLINE_S) and here.recv() == "here"
        os.kill(pid, number)
        task.join(DEADLINE_S)
        assert task.exitcode == 0
    finally:
        task.kill()


@pytest.mark.parametrize("prefix", [[], pytest.param(NAMESPACES, marks=NO_NAMESPACES)], ids=["as another", "as PID 1"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_leaves_when_it_is_asked_to(prefix: Sequence[str], number: int) -> None:
    environment = {**os.environ, "AWS_REGION": "us-east-1"}
    command = [*prefix, sys.executable, "-c", IMPORTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"here\n"
            os.kill(program_of(process.pid) if prefix else process.pid, number)
            assert process.wait(DEADLINE_S) in {128 + 15, -15, 130}
        finally:
            process.kill()


def program_of(unshare: int) -> int:
    """The process id of the child of ``unshare``, outside of its namespace."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        with open(f"/proc/{unshare}/task/{unshare}/children") as file:
            if found := file.read().split():
                return int(found[0])
        time.sleep(0.01)
    raise AssertionError("it has no child")
