"""What a replica's process gets from the host, and what is left of it, and of processes that it starts, at its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.replicas.host import ModelHost
from tests.support.hosts import DEADLINE_S, ROOT, batch, gone, hosted, judged, until, value


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


def wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: all(gone(pid) for pid in pids), f"{pids} are gone")


def test_processes_that_a_model_started_end_with_it(tmp_path: Path) -> None:
    """When its replica dies of a record, and when the host stops."""
    mark = tmp_path / "child"

    async def body(host: ModelHost) -> None:
        first = int(mark.read_text())
        await host.settle(batch(1, {0: "exit"}))
        await asyncio.to_thread(wait_until_gone, [first])
        await until(lambda: host.replicas_alive == 1)
        second = int(mark.read_text())
        assert second != first and not gone(second)
        await host.stop()
        await asyncio.to_thread(wait_until_gone, [second])

    hosted(body, "StartsChildren", options={"child": str(mark)}, retries=0)


def test_detached_processes_of_a_model_end_with_it(tmp_path: Path) -> None:
    """A process in a session and an environment of its own, whose parent has ended.

    When the replica dies of a record, when it is killed from outside, and when the host stops.
    """
    mark = tmp_path / "child"

    async def detached(host: ModelHost) -> int:
        await until(lambda: host.replicas_alive == 1)
        child = int(mark.read_text())
        assert not gone(child)
        return child

    async def body(host: ModelHost) -> None:
        child = await detached(host)
        mark.unlink()
        await host.settle(batch(1, {0: "exit"}))
        await asyncio.to_thread(wait_until_gone, [child])
        child = await detached(host)
        mark.unlink()
        killed = host.pids[0]
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(wait_until_gone, [child])
        await until(lambda: host.pids not in ([], [killed]))
        child = await detached(host)
        await host.stop()
        await asyncio.to_thread(wait_until_gone, [child])

    hosted(body, "LeavesDaemons", options={"child": str(mark)}, retries=0)


SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WHATEVER_COMES_NEXT",
    "BOTO_CONFIG",
)


SLOW_TO_IMPORT = {"asyncio", "ssl", "pyarrow.compute", "importlib.metadata", "multiprocessing"}
"""Together they take as long as a third of a replica's start."""


@pytest.mark.parametrize(("given", "policy"), [(False, None), (True, "active")])
def test_a_model_has_threads_and_a_session_of_its_own_and_the_tasks_credentials_only_if_it_is_given_them(
    given: bool, policy: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*SECRETS, "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    records = batch(1)
    with (tmp_path / "open").open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        judged(records, "Surroundings", aws_credentials=given, threads=3)
    told = json.loads(value(records[0], "told"))
    environment = told["environment"]
    assert {name for name in SECRETS if environment.get(name) == "secret"} == (set(SECRETS) if given else set())
    assert environment["AWS_REGION"] == environment["AWS_ENDPOINT_URL_S3"] == "secret"
    assert (environment["OMP_NUM_THREADS"], told["threads"]) == ("3", 3)
    assert environment["OMP_WAIT_POLICY"] == (policy or "passive")
    assert told["session"] != os.getsid(0)
    assert told["core"] == [0, 0]
    kinds = sorted(where.partition(":")[0] for where in told["descriptors"].values())
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]
    assert not SLOW_TO_IMPORT & set(told["modules"]), "a replica imports what its model does not need"


def test_a_replica_ends_at_the_end_of_its_stream() -> None:
    """On systems where the kernel does not kill it with its host, and while the host lives."""
    ours, theirs = socket.socketpair()
    program = "from pipeline.model_process.main import main; main()"
    command = [sys.executable, "-c", program, str(theirs.fileno()), str(os.getpid())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT) as replica:
        theirs.close()
        ours.close()
        assert replica.wait(DEADLINE_S) == 0


def test_a_replica_whose_host_has_died_does_not_begin() -> None:
    ours, theirs = socket.socketpair()
    program = "from pipeline.model_process.main import main; main()"
    with ours, theirs:
        command = [sys.executable, "-c", program, str(theirs.fileno()), "1"]
        assert (
            subprocess.run(command, pass_fds=[theirs.fileno()], cwd=ROOT, timeout=DEADLINE_S, check=False).returncode
            == 0
        )


HOST = """
import asyncio, sys
from tests.support.hosts import record, settings
from pipeline.replicas.host import ModelHost

async def main():
    host = ModelHost(settings(replicas=2))
    await host.start()
    judging = [host.settle([record(0, do=do, mark=f"{sys.argv[1]}/{do}")]) for do in ("hang", "stop python")]
    print(*host.pids, flush=True)
    await asyncio.gather(*judging)

asyncio.run(main())
"""


def test_replicas_go_when_the_host_is_killed(tmp_path: Path) -> None:
    """One that hangs in Python, and one that never runs Python again."""
    with subprocess.Popen([sys.executable, "-c", HOST, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as host:
        try:
            assert host.stdout is not None
            pids = [int(pid) for pid in host.stdout.readline().split()]
            assert len(pids) == 2
            for action in ("hang", "stop python"):
                wait_until((tmp_path / action).exists, f"a model does this: {action}")
        finally:
            host.kill()
        wait_until_gone(pids)
