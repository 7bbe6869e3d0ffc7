"""The start and the end of replicas."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import Fatal, ModelError
from pipeline.outages import Outages
from pipeline.replicas import pool
from pipeline.replicas.host import HostSettings, ModelHost, ModelSpec
from pipeline.replicas.process import ReplicaProcess
from pipeline.testing.model_settings import assignment, host_settings
from tests.support.hosts import DEADLINE_S, ROOT, batch, expect_all_but, hosted, judged, record, settings, until, value


def started(given: HostSettings) -> ModelSpec:
    async def main() -> ModelSpec:
        host = ModelHost(given)
        try:
            return await host.start()
        finally:
            await host.stop()

    return asyncio.run(main())


def gone(pid: int) -> bool:
    """The process has ended; it may not have been reaped yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


def wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: all(gone(pid) for pid in pids), f"{pids} are gone")


def test_the_specification_describes_the_model() -> None:
    spec = started(settings("Measured", passthrough={"user": "string"}))
    assert spec.row_schema.names == ["user", "n", "x"]
    assert (spec.measures, spec.pads) == (True, True)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("Missing", "module tests.support.models has no Missing"),
        ("Toy.missing", "module tests.support.models has no Toy.missing"),
        ("ANSWERS", "it is of type dict, not a class"),
        ("predict_items", "it is a function that needs items, but it is called without arguments"),
        ("makes_nothing", "it returned NoneType, not a model"),
        ("makes_a_class", "it returned the class Toy, not a model"),
        ("makes_later", "it returned coroutine, not a model"),
        (
            "WantsMore",
            "its predict needs threshold, but it is called with items only, and with records if it has a parameter",
        ),
        ("WantsArguments", "WantsArguments() needs path, but is called without arguments; load(context) gets"),
        ("NoPredict", "it has no predict(items)"),
        ("NoSchema", "it needs an output_schema"),
        ("NoWeights", "weights.safetensors: cannot be read"),
        ("FailsToLoad", "load failed: RuntimeError: no such device"),
        ("FailsItsExample", "its own example failed: not to my taste"),
    ],
)
def test_a_model_that_cannot_be_used_is_reported_in_one_line(model: str, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)) as raised:
        started(settings(model))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("tests.nowhere:Toy", "there is no module tests.nowhere; put it next to the configuration file, or install it"),
        ("broken:Model", "importing it failed: ZeroDivisionError: division by zero (broken.py, line 1)"),
        ("lacking:Model", "there is no module nowhere_at_all"),
        ("leaving:Model", "importing it failed: SystemExit: 4 (leaving.py, line 2)"),
    ],
)
def test_a_factory_that_does_not_import_is_reported_in_one_line(factory: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import nowhere_at_all\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(4)\n")
    with pytest.raises(ModelError, match=re.escape(text) + "$"):
        started(host_settings(factory, search_path=(str(tmp_path),)))


def test_a_carried_field_may_not_clash_with_an_output_column() -> None:
    with pytest.raises(ModelError, match=r"model.passthrough.x: "):
        started(settings(passthrough={"x": "string"}))


def test_a_replica_that_dies_while_it_loads_is_fatal() -> None:
    with pytest.raises(Fatal, match="replica exited with code 9 while it loaded"):
        started(settings("DiesLoading"))


def test_loading_has_a_deadline() -> None:
    with pytest.raises(ModelError, match=re.escape("within 0.5 s (model.start_timeout_s)")):
        started(settings("HangsLoading", start_timeout_s=0.5))


def test_a_model_that_loads_no_more_ends_the_host_with_its_reason(tmp_path: Path) -> None:
    records = batch(2, {0: "exit"})
    with pytest.raises(
        Fatal, match="replica exited with code 3, and its replacement does not start: the weights are gone"
    ):
        judged(records, "LoadsWhile", options={"mark": str(tmp_path / "mark")}, give_up_after_s=0.3)
    assert [record.outcome for record in records] == [None, None]


def test_a_model_that_loads_again_in_time_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outage is shown while it lasts, and requests wait for the replica."""
    monkeypatch.setattr(pool, "SETTLED_S", 0.05)
    mark = tmp_path / "mark"
    records = batch(4, {1: "exit"})
    outages = Outages()

    async def main() -> None:
        host = ModelHost(settings("LoadsWhile", options={"mark": str(mark)}, give_up_after_s=30), outages=outages)
        try:
            await host.start()
            judging = asyncio.create_task(host.settle(records))
            await until(lambda: bool(outages.current()))
            assert outages.current()[0].reason == "no replica starts: the weights are gone"
            assert (outages.current()[0].part, host.replicas_alive, judging.done()) == ("model", 0, False)
            mark.unlink()
            await judging
            await until(lambda: not outages.current())
        finally:
            await host.stop()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    expect_all_but(records, {1})


def test_replicas_that_end_as_soon_as_they_start_end_the_host() -> None:
    async def body(host: ModelHost) -> None:
        assert isinstance(await host.failed, Fatal)
        await host.settle([record(0)])

    with pytest.raises(Fatal, match="replica exited with code 5, and its replacement does not start: replicas end"):
        hosted(body, "DiesIdle", give_up_after_s=0.3)


def test_a_stopped_host_judges_no_more() -> None:
    async def body(host: ModelHost) -> None:
        judging = asyncio.create_task(host.settle(batch(1, {0: "hang"})))
        await asyncio.sleep(0)
        await host.stop()
        await judging

    with pytest.raises(Fatal, match="was stopped"):
        hosted(body)


@pytest.mark.parametrize("policy", [None, "active"])
def test_threads_and_session_are_the_replicas_own(policy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    records = batch(1)
    judged(records, "Environment", threads=3)
    assert (value(records[0], "omp"), value(records[0], "threads")) == ("3", 3)
    assert value(records[0], "waits") == (policy or "passive")
    assert value(records[0], "session") != os.getsid(0)


def test_a_replica_stays_when_the_task_gets_sigterm() -> None:
    records = batch(4, {0: "slow"})

    async def body(host: ModelHost) -> None:
        before = host.pids
        os.kill(before[0], signal.SIGTERM)
        os.kill(before[0], signal.SIGINT)
        await host.settle(records)
        assert host.pids == before

    hosted(body)
    expect_all_but(records, set())


@pytest.mark.parametrize("action", ["hang", "stop python"])
def test_stopping_takes_less_than_a_second_for_any_model(action: str) -> None:
    async def body(host: ModelHost) -> None:
        judging = asyncio.create_task(host.settle(batch(1, {0: action})))
        await asyncio.sleep(0)
        pids, began = host.pids, time.monotonic()
        await host.stop()
        assert time.monotonic() - began < 1
        assert all(gone(pid) for pid in pids)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)

    hosted(body)


async def two_children(before: set[psutil.Process]) -> set[psutil.Process]:
    """This process may have other children, such as the local AWS of other tests."""
    await until(lambda: len(children() - before) >= 2)
    return children() - before


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def test_a_start_that_is_given_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        host = ModelHost(settings("HangsLoading", replicas=2))
        before = children()
        starting = asyncio.create_task(host.start())
        started = await two_children(before)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
        assert all(gone(child.pid) for child in started)

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


@pytest.mark.parametrize("turns", range(8))
def test_a_start_that_is_given_up_at_any_moment_closes_its_streams(turns: int) -> None:
    """Cancel after this many turns of the event loop, before or after the process exists."""

    async def main() -> None:
        link = ReplicaProcess(assignment("predict", "tests.support.models:HangsLoading", [str(ROOT)]))
        starting = asyncio.create_task(link.start(DEADLINE_S))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await link.close()

    assert unclosed(main) == []


def unclosed(main: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """Objects that only the garbage collector has closed, without those of earlier tests."""
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(main())
        gc.collect()
    return [str(each.message) for each in told if each.category is ResourceWarning]


@pytest.mark.parametrize("end", ["stopped", "exit"])
def test_processes_that_a_model_started_end_with_it(end: str, tmp_path: Path) -> None:
    mark = tmp_path / "child"

    async def body(host: ModelHost) -> None:
        child = int(mark.read_text())
        if end == "exit":
            await host.settle(batch(1, {0: "exit"}))
        else:
            await host.stop()
        await asyncio.to_thread(wait_until_gone, [child])
        assert gone(child)

    hosted(body, "StartsChildren", options={"child": str(mark)}, retries=0)


@pytest.mark.parametrize("end", ["stopped", "exit", "killed", "host"])
def test_detached_processes_of_a_model_end_with_it(end: str, tmp_path: Path) -> None:
    """A process in a session and an environment of its own, whose parent has ended."""
    mark = tmp_path / "child"
    children: list[int] = []

    async def body(host: ModelHost) -> None:
        children.append(int(mark.read_text()))
        assert not gone(children[0])
        if end == "exit":
            await host.settle(batch(1, {0: "exit"}))
        elif end == "killed":
            os.kill(host.pids[0], signal.SIGKILL)
        elif end == "stopped":
            await host.stop()
        if end != "host":
            await asyncio.to_thread(wait_until_gone, children)

    hosted(body, "LeavesDaemons", options={"child": str(mark)}, retries=0)
    wait_until_gone(children)


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


@pytest.mark.parametrize("given", [False, True])
def test_a_model_has_the_tasks_credentials_only_if_it_is_given_them(
    given: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*SECRETS, "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "secret")
    records = batch(1)
    with (tmp_path / "open").open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        judged(records, "Surroundings", aws_credentials=given)
    told = json.loads(value(records[0], "told"))
    assert {name for name in SECRETS if told["environment"].get(name) == "secret"} == (set(SECRETS) if given else set())
    assert told["environment"]["AWS_REGION"] == told["environment"]["AWS_ENDPOINT_URL_S3"] == "secret"
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
    judging = asyncio.ensure_future(host.settle([record(0, do=sys.argv[1], mark=sys.argv[2])]))
    print(*host.pids, flush=True)
    await judging

asyncio.run(main())
"""


@pytest.mark.parametrize("action", ["hang", "stop python"])
def test_replicas_go_when_the_host_is_killed(action: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with subprocess.Popen([sys.executable, "-c", HOST, action, str(mark)], stdout=subprocess.PIPE, cwd=ROOT) as host:
        try:
            assert host.stdout is not None
            pids = [int(pid) for pid in host.stdout.readline().split()]
            assert len(pids) == 2
            wait_until(mark.exists, "the model is at it")
        finally:
            host.kill()
        wait_until_gone(pids)


def test_a_model_may_have_a_file_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the configuration's folder is the first one on Python's search path."""
    text = "import pyarrow as pa\nfrom helpers import N\nclass M:\n  output_schema = pa.schema([('n', pa.int64())])\n"
    text += "  def cost(self, item): return N\n  def predict(self, items): return [{'n': N} for _ in items]\n"
    (tmp_path / "helpers.py").write_text("N = 5\n")
    for name in ("pipeline", "consumer", "random", "types", "socket"):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    async def one(name: str) -> object:
        given = host_settings(f"{name}:M", search_path=(str(tmp_path),))
        host = ModelHost(given)
        try:
            await host.start()
            judged_one = record()
            await host.measure([judged_one])
            assert judged_one.cost == 5
            await host.settle([judged_one])
            return value(judged_one, "n")
        finally:
            await host.stop()

    for name in ("pipeline", "consumer", "random"):
        assert asyncio.run(asyncio.wait_for(one(name), DEADLINE_S)) == 5
