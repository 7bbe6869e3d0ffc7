"""A task that has no free file descriptors for a while goes on; if there are none for too long, it ends with the
reason."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.hosts import ROOT

PROGRAM = """
import asyncio, os, resource, signal, sys, contextlib
from tests.support.hosts import batch, expect_all_but, settings, until
from pipeline.errors import Fatal
from pipeline.replicas.host import ModelHost
from pipeline.outages import Outages

async def main(again, give_up_after_s):
    outages = Outages()
    host = ModelHost(settings(give_up_after_s=give_up_after_s), outages=outages)
    await host.start()
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    os.kill(host.pids[0], signal.SIGKILL)
    records = batch(4)
    judging = asyncio.ensure_future(host.settle(records))
    await until(lambda: bool(outages.current()))
    print(outages.current()[0].reason, flush=True)
    if again:
        for each in taken:
            os.close(each)
        await judging
        expect_all_but(records, set())
    else:
        try:
            await judging
        except Fatal as error:
            print(error)
    async with asyncio.timeout(5):
        await host.stop()

asyncio.run(asyncio.wait_for(main(sys.argv[1] == "again", float(sys.argv[2])), 50))
print("over")
"""


@pytest.mark.parametrize(("way", "give_up_after_s"), [("again", 30), ("never", 1)])
def test_a_replica_that_dies_while_descriptors_are_short(way: str, give_up_after_s: float) -> None:
    """The replica is replaced when descriptors are free again, or the task ends with the reason in time; stopping does
    not hang."""
    command = [sys.executable, "-c", PROGRAM, way, str(give_up_after_s)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, *rest = done.stdout.splitlines()
    assert "Too many open files" in first
    assert rest[-1] == "over"
    assert way == "again" or "does not start: a replica cannot be started: OSError" in rest[0]
