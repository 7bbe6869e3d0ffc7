"""Many and bad requests to the health page: it answers, and the host's work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psutil
import pytest

from consumer.config.settings import HealthSettings
from consumer.http import server
from consumer.http.health import Health
from consumer.http.server import MOST, REQUEST_BYTES, ConnectionPace, RequestRefused, parse
from pipeline.errors import PenstockError
from pipeline.metrics import Metrics

SILENT = 500
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def page(metrics: Metrics | None = None) -> AsyncIterator[Health]:
    failures: list[BaseException] = []
    async with Health(
        HealthSettings(port=0), metrics or Metrics(), lambda: None, lambda: None, failures.append
    ) as health:
        yield health
    assert failures == []


async def said(port: int, request: bytes = GET, *, within_s: float = 5.0) -> bytes:
    """The whole answer; empty if the connection is closed or reset without one."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@contextmanager
def silent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that send nothing. Some may stay in the kernel's queue."""
    callers = []
    try:
        for _ in range(count):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
            callers.append(caller)
        yield callers
    finally:
        for caller in callers:
            caller.close()


@contextmanager
def descriptors(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_500_silent_connections_cost_a_few_descriptors_and_no_answer() -> None:
    async def main() -> tuple[bytes, int]:
        async with page() as health:
            before = psutil.Process().num_fds()
            with silent(health.port, SILENT) as callers:
                await asyncio.sleep(0.3)
                used = psutil.Process().num_fds() - len(callers) - before
                return await said(health.port), used

    answer, used = asyncio.run(main())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")
    assert 0 < used <= MOST


def test_silent_connections_are_closed_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.1)

    async def main() -> list[bytes]:
        async with page() as health:
            return [await said(health.port, request) for request in (b"", b"GET /healthz HTTP/1.1\r\nhost:")]

    assert asyncio.run(main()) == [b"", b""]


def test_clients_that_do_not_read_the_answer_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large request, of which nothing is kept for a client that does not read."""
    monkeypatch.setattr(server, "ANSWER_S", 0.2)
    metrics = Metrics()
    for shard in range(4_000):
        metrics.records.received(f"shard-{shard:012}", 1)

    async def main() -> int:
        async with page(metrics) as health:
            before = psutil.Process().num_fds()
            slow = []
            for _ in range(MOST):
                caller = socket.socket()
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                caller.connect(("127.0.0.1", health.port))
                caller.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                slow.append(caller)
            async with asyncio.timeout(30):
                while psutil.Process().num_fds() - before > len(slow):  # noqa: ASYNC110  # the kernel sets no event
                    await asyncio.sleep(0.05)
            assert (await said(health.port)).endswith(b"ok\n")
            for caller in slow:
                caller.close()
            return len(slow)

    assert asyncio.run(main()) == MOST


def test_without_descriptors_no_connection_is_accepted_the_log_stays_short_and_it_comes_right(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(server, "SHORT_S", 0.001)

    async def main() -> bytes:
        async with page() as health:
            with contextlib.ExitStack() as held:
                callers = [held.enter_context(socket.socket()) for _ in range(4)]
                with descriptors(psutil.Process().num_fds()):
                    for caller in callers:
                        caller.setblocking(False)
                        caller.connect_ex(("127.0.0.1", health.port))
                    await asyncio.sleep(0.5)
            return await said(health.port)

    assert asyncio.run(main()).endswith(b"ok\n")
    refused = [record for record in caplog.records if "cannot be accepted" in record.getMessage()]
    assert 1 <= len(refused) < 12
    assert len(caplog.records) < 20


@pytest.mark.parametrize("call", ["silent", "metrics", "preface"])
def test_the_host_keeps_working_during_request_storms(call: str) -> None:
    """The share of the time that the host's event loop gets during a storm of requests."""
    requests = {
        "silent": b"",
        "metrics": b"GET /metrics HTTP/1.1\r\n\r\n",
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }

    async def main() -> float:
        async with page() as health:
            storm = await asyncio.create_subprocess_exec(
                *("python3", "-c", STORM, str(health.port)), stdin=asyncio.subprocess.PIPE
            )
            assert storm.stdin is not None
            storm.stdin.write(requests[call])
            storm.stdin.close()
            await asyncio.sleep(0.5)
            began_s, used = time.monotonic(), time.thread_time()
            others = psutil.Process().cpu_times()
            await asyncio.sleep(1.0)
            after = psutil.Process().cpu_times()
            lasted_s = time.monotonic() - began_s
            storm.kill()
            await storm.wait()
            assert time.thread_time() - used < 0.1 * lasted_s
            spent_s: float = after.user + after.system - others.user - others.system
            return spent_s / lasted_s

    assert asyncio.run(main()) < 0.2


STORM = """
import socket, sys, time
request, calls = sys.stdin.buffer.read(), []
while True:
    caller = socket.socket()
    caller.setblocking(False)
    caller.connect_ex(("127.0.0.1", int(sys.argv[1])))
    calls.append(caller)
    time.sleep(0.001)
    if len(calls) > 200:
        try:
            calls[0].send(request)
        except OSError:
            pass
        calls.pop(0 if request else 100).close()
    for each in calls[-20:-10]:
        try:
            each.send(request)
        except OSError:
            pass
"""


def test_a_blocked_event_loop_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.http.health.LOOP_S", 0.1)

    async def main() -> bytes:
        async with page() as health:
            with socket.create_connection(("127.0.0.1", health.port)) as caller:
                caller.sendall(GET)
                caller.settimeout(5)
                return caller.recv(4096) + caller.recv(4096)  # the loop stands still meanwhile

    assert asyncio.run(main()).endswith(b"the event loop has not answered for 0.1 s\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.0\n\n", b"200"),
        (b"GET /healthz?full=1 HTTP/1.1\r\n\r\n", b"200"),
        (b"DELETE /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /stats HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", b"405"),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"x" * (REQUEST_BYTES + 10), b"431"),
    ],
)
def test_every_request_is_answered_and_the_connection_ends(request_: bytes, status: bytes) -> None:
    async def main() -> bytes:
        async with page() as health:
            return await said(health.port, request_)

    head = asyncio.run(main()).split(b"\r\n\r\n")[0]
    assert head.split()[1] == status
    assert b"connection: close" in head


def test_a_page_that_dies_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("consumer.http.server.Port.serve", dies)

    async def main() -> BaseException:
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        async with Health(HealthSettings(port=0), Metrics(), lambda: None, lambda: None, failed.set_result):
            return await asyncio.wait_for(failed, 5)

    failure = asyncio.run(main())
    assert isinstance(failure, PenstockError)
    assert str(failure) == "the health page failed: MemoryError"


def test_an_answer_that_fails_costs_itself() -> None:
    def broken() -> str | None:
        raise RuntimeError("secret")

    async def main() -> list[bytes]:
        async with Health(HealthSettings(port=0), Metrics(), broken, lambda: None) as health:
            return [await said(health.port), await said(health.port, b"GET /stats HTTP/1.1\r\n\r\n")]

    healthz, stats = asyncio.run(main())
    assert healthz.startswith(b"HTTP/1.1 500 ") and healthz.endswith(b"/healthz failed: RuntimeError\n")
    assert stats.startswith(b"HTTP/1.1 200 ")


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket, now = ConnectionPace(5, 10.0), 0.0
    waits = []
    for _ in range(8):
        wait_s = bucket.wait_s(now)
        waits.append(round(wait_s, 3))
        now += wait_s
    assert waits == [0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    "head", [b"", b"\r\n\r\n", b"GET / FTP/1\r\n\r\n", b"\xff\xfe\x00\r\n\r\n", b"a b c d\r\n\r\n"]
)
def test_invalid_requests_are_refused(head: bytes) -> None:
    with pytest.raises(RequestRefused):
        parse(head)
