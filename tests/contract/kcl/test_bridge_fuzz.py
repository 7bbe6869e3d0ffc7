"""Random input at the bridges' socket and through a bridge: other sessions are not affected, and nothing hangs."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
import psutil
import pytest

from consumer.kcl import socket_auth
from consumer.kcl.bridge_server import GREETING_BYTES, BridgeServer, Decoder
from consumer.kcl.protocol import ProtocolError
from consumer.kcl.session import ShardSession
from consumer.kcl.socket_auth import MOST_STRANGERS, token_path
from consumer.kcl.wire import Wire
from consumer.testing import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Position, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink
from tests.contract.kcl.test_bridge import DEADLINE_S, Ends, connected, in_thread, receive, start, write_all

SEED = 20_261_123
STRAYS, AT_ONCE = 2100, 64
SILENT_S = 0.3
MEMORY_MIB = 96
"""Memory that 64 connections may use: asyncio reads up to 256 KiB of each before they are checked, and slack."""
BRIDGES = 12
SHARD_ID = "shardId-000000000000"


@dataclass
class Host:
    """The host's end of the bridges, with a stage of fakes."""

    path: Path
    bridges: BridgeServer
    metrics: Metrics
    sink: FakeSink

    @property
    def strays(self) -> int:
        value = self.metrics.registry.get_sample_value("penstock_rejected_connections_total")
        assert value is not None
        return int(value)

    async def connect(self, *, token: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        if token:
            writer.write(token_path(self.path).read_bytes())
        return reader, writer


def hosted(folder: Path, body: Callable[[Host], Awaitable[None]], *, greeting_s: float = 60.0) -> None:
    async def main() -> None:
        metrics, sink, leaving, decoder = Metrics(), FakeSink(), asyncio.Event(), Decoder()
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        stage = Stage(FakeJudge(), batcher, [sink], Bounds(100, 10**9), metrics)

        def session(wire: Wire) -> ShardSession:
            return ShardSession(wire, stage, lambda name: Shard("events", 1, name), leaving, metrics.records, decoder)

        bridges = BridgeServer(session, metrics.rejected_connection, greeting_s=greeting_s)
        await bridges.listen(folder / "s")
        staging = asyncio.create_task(stage.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await body(Host(folder / "s", bridges, metrics, sink))
        finally:
            await bridges.close()
            staging.cancel()
            await asyncio.gather(staging, return_exceptions=True)
            decoder.close()

    asyncio.run(main())


@asynccontextmanager
async def over_a_socket(host: Host, kcl: FakeKcl) -> AsyncIterator[None]:
    """A fake KCL, connected like a bridge."""
    reader, writer = await host.connect()

    async def to_host() -> None:
        while True:
            writer.write(await kcl.read())
            await writer.drain()

    async def to_kcl() -> None:
        while line := await reader.readline():
            await kcl.write(line)

    directions = [asyncio.create_task(to_host()), asyncio.create_task(to_kcl())]
    try:
        yield
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def first_words(dice: random.Random) -> tuple[bytes, bool]:
    """What a stray connection sends, and whether it then waits for its end (``True``)."""
    message = orjson.dumps({"action": "initialize", "shardId": "shardId-0", "sequenceNumber": "TRIM_HORIZON"}) + b"\n"
    words = [
        b"",
        dice.randbytes(dice.randrange(1, 200)).replace(b"\n", b""),
        dice.randbytes(dice.randrange(200)) + b"\n",
        bytes(dice.choices(b'{}[]":,0e-\\u \x00', k=dice.randrange(60))) + b"\n",
        message[: dice.randrange(len(message) - 2)] + dice.choice([b"", b"\n"]),
        message.replace(b"initialize", dice.choice([b"leaseLost", b"shardEnded", b"checkpoint", b"Initialize"])),
        message.replace(b"shardId-0", dice.choice([b"", b"../../etc", b"a" * 200, b"s h", b"\\u0000"])),
        message.replace(b"TRIM_HORIZON", dice.choice([b"NEVER", b"-1", b"", b"9" * 57])),
        b"[" * dice.randrange(1, GREETING_BYTES) + b"\n",
        dice.randbytes(256).replace(b"\n", b"") * dice.choice([70, 4096]),
    ]
    return dice.choice(words), dice.random() < 0.6


async def stray(host: Host, words: bytes, *, goes: bool, token: bool = True) -> None:
    """Send the data, then close or wait to be closed."""
    reader, writer = await host.connect(token=token)
    with suppress(ConnectionError):
        writer.write(words)
        await writer.drain()
        if not goes:
            assert await reader.read() == b""
    await closed(writer)


def test_thousands_of_strays_do_not_affect_other_sessions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(SEED)
    said = [(*first_words(dice), dice.random() < 0.7) for _ in range(STRAYS)]
    process = psutil.Process()
    gone = asyncio.Semaphore(0)

    async def work(host: Host, kcl: FakeKcl, strays: asyncio.Future[list[None]]) -> int:
        """Send a record to a good session for each stray connection, then wait until all are checkpointed. Return their
        number."""
        sequence = 0
        while not strays.done():
            sequence += 1
            await kcl.process([row(sequence)])
            await gone.acquire()
        while kcl.checkpoints[-1:] != [Position(sequence, 0)] or host.strays < STRAYS:
            await kcl.process([])
        return sequence

    async def body(host: Host) -> None:
        kcl, at_once = FakeKcl(), asyncio.Semaphore(AT_ONCE)

        async def one(words: bytes, goes: bool, token: bool) -> None:
            async with at_once:
                await stray(host, words, goes=goes, token=token)
            gone.release()

        async with over_a_socket(host, kcl):
            await kcl.initialize(SHARD_ID)
            descriptors, memory = process.num_fds(), process.memory_info().rss
            strays = asyncio.gather(*(one(*each) for each in said))
            strays.add_done_callback(lambda done: gone.release())
            records = await work(host, kcl, strays)
            await strays
            assert host.strays == STRAYS
            assert [session.shard_id for session in host.bridges.sessions] == [SHARD_ID]
            assert [int(record.sequence) for record in host.sink.rows[SHARD_ID]] == [*range(1, records + 1)]
            assert not host.bridges.failure.done()
            assert process.num_fds() <= descriptors
            assert process.memory_info().rss - memory < MEMORY_MIB * 2**20

    with caplog.at_level(logging.WARNING):
        hosted(tmp_path, body, greeting_s=SILENT_S)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == STRAYS.bit_length(), f"seed {SEED}"
    assert {line.partition(": it ")[2].split()[0] for line in lines} <= {"ended", "sent", "started", "broke"}
    assert max(map(len, lines)) < 120


@pytest.fixture
def soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_auth, "TOKEN_S", 0.2)


HELLO = b'{"action":"initialize","shardId":"shardId-7","sequenceNumber":"LATEST"}\n'


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"", "sent no token within 0.2 s"),
        (HELLO, "sent a wrong token"),
        (b"0" * 64 + HELLO, "sent a wrong token"),
        (b"0" * 63, "sent no token within 0.2 s"),
    ],
)
def test_connections_without_the_token_are_closed_for_any_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, soon_given_up: None, words: bytes, why: str
) -> None:
    async def body(host: Host) -> None:
        await stray(host, words, goes=False, token=False)
        assert host.strays == 1
        assert host.bridges.sessions == []
        assert token_path(host.path).stat().st_mode & 0o777 == 0o600

    hosted(tmp_path, body)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith(f"it {why}")


def test_no_two_starts_have_one_token(tmp_path: Path) -> None:
    tokens = []

    async def body(host: Host) -> None:
        tokens.append(token_path(host.path).read_bytes())

    for name in "ab":
        (tmp_path / name).mkdir()
        hosted(tmp_path / name, body)
    assert len(set(tokens)) == 2
    assert all(len(token) == socket_auth.TOKEN_BYTES for token in tokens)


def test_strangers_that_keep_still_are_few_and_bridges_come_in(tmp_path: Path) -> None:
    """The oldest connection is closed for a new one; a bridge is never the oldest."""

    async def body(host: Host) -> None:
        before = psutil.Process().num_fds()
        strangers = [await host.connect(token=False) for _ in range(3 * MOST_STRANGERS)]
        reader, writer = await host.connect()
        writer.write(HELLO)
        assert b"initialize" in await reader.readline()
        assert psutil.Process().num_fds() - before <= len(strangers) + 2 + MOST_STRANGERS
        assert host.strays >= 2 * MOST_STRANGERS
        assert [session.shard_id for session in host.bridges.sessions] == ["shardId-7"]
        for _, each in [*strangers, (reader, writer)]:
            await closed(each)

    hosted(tmp_path, body)


def test_another_user_is_a_stray(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.getuid()

    async def body(host: Host) -> None:
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        await stray(host, HELLO, goes=False)
        assert host.strays == 1

    hosted(tmp_path, body)
    assert caplog.records[0].getMessage().endswith("it belongs to another user")


def test_a_first_line_without_end_is_given_up_at_its_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(host: Host) -> None:
        await stray(host, b"x" * (GREETING_BYTES + 1), goes=False)
        assert host.strays == 1

    hosted(tmp_path, body)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith(f"it sent {GREETING_BYTES} bytes without the end of a line")


@pytest.mark.parametrize("together", [True, False])
def test_garbage_after_initialize_ends_the_task_with_the_reason(tmp_path: Path, together: bool) -> None:
    hello = orjson.dumps(
        {"action": "initialize", "shardId": "shardId-7", "sequenceNumber": "LATEST", "subSequenceNumber": 0}
    )

    async def body(host: Host) -> None:
        reader, writer = await host.connect()
        writer.write(hello + b"\n" + b"garbage\n" * together)
        assert b"status" in await reader.readline()
        if not together:
            writer.write(b"garbage\n")
        failure = await host.bridges.failure
        assert isinstance(failure, ProtocolError)
        assert "a line of 8 bytes is not JSON" in str(failure)
        assert host.strays == 0
        await closed(writer)

    hosted(tmp_path, body)


def test_a_first_message_that_comes_byte_by_byte_is_one(tmp_path: Path) -> None:
    hello = b'{"action":"initialize","shardId":"shardId-7","sequenceNumber":"LATEST"}\n'

    async def body(host: Host) -> None:
        reader, writer = await host.connect()
        for place in range(len(hello)):
            writer.write(hello[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0)
        assert b"initialize" in await reader.readline()
        writer.write(b'{"action":"shutdownRequested"}\n')
        assert b"shutdownRequested" in await reader.readline()
        assert [session.shard_id for session in host.bridges.sessions] == ["shardId-7"]
        await closed(writer)

    hosted(tmp_path, body)


def test_a_real_bridge_that_is_taken_for_a_stray_ends_its_jvm(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        with start(host.path) as process:
            assert process.stdin is not None
            write_all(process.stdin, b"no message at all\n")
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 1
        assert host.strays == 1
        assert not host.bridges.failure.done()

    hosted(tmp_path, body)


# -- a bridge between two ends that say anything at all


def write_random(stream: IO[bytes], words: bytes, dice: random.Random) -> None:
    while words:
        words = words[os.write(stream.fileno(), words[: dice.randrange(1, 70_000)]) :]


def close_stdin(ends: Ends) -> None:
    ends.stdin.close()
    assert receive(ends.host, 1) == b""
    ends.host.close()


def lose_jvm(ends: Ends) -> None:
    ends.stdout.close()
    ends.host.sendall(b"nobody reads this")


ENDINGS: dict[str, tuple[Callable[[Ends], None], int]] = {
    "the JVM closes it": (close_stdin, 0),
    "the host is gone": (lambda ends: ends.host.close(), 1),
    "the host says no more": (lambda ends: ends.host.shutdown(socket.SHUT_WR), 1),
    "the JVM is gone": (lose_jvm, 1),
}
"""How the bridge ends, and the exit status that it must have."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_bridge_passes_any_bytes_both_ways_and_ends_only_as_it_may(tmp_path: Path, ending: str) -> None:
    end, exit_status = ENDINGS[ending]
    for number in range(BRIDGES):
        dice = random.Random(f"{SEED} {ending} {number}")
        down, up = dice.randbytes(dice.randrange(300_000)), dice.randbytes(dice.randrange(300_000))
        (folder := tmp_path / str(number)).mkdir()
        with connected(folder) as ends:
            told = bytearray(len(up))
            threads = [
                in_thread(write_random, ends.stdin, down, dice),
                in_thread(ends.host.sendall, up),
                in_thread(ends.stdout.readinto, told),  # type: ignore[attr-defined]  # a buffered reader has it
            ]
            assert receive(ends.host, len(down)) == down, (ending, number)
            for thread in threads:
                thread.join(DEADLINE_S)
            assert told == up, (ending, number)
            end(ends)
            assert ends.exit_status() == exit_status, (ending, number)
            assert ends.process.stderr is not None
            complaints = ends.process.stderr.read().splitlines()
            assert all(line.startswith(b"bridge: ") for line in complaints) and len(complaints) <= 1, complaints
