"""KCL, its JVM and the bridges without a model: start, stop and second start, by polling and with fan-out."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from consumer.config import kcl_properties
from consumer.config.settings import KclSettings, StreamSettings
from consumer.kcl.daemon import Daemon
from consumer.kcl.properties import AwsEndpoints
from consumer.kcl.protocol import (
    CheckpointAnswer,
    Initialize,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
    decode,
    encode_checkpoint,
    encode_status,
)
from consumer.kcl.socket_auth import TOKEN_BYTES, SocketAuth
from consumer.leases import leases, tables
from consumer.leases.seed import seed
from consumer.local.process import LocalAWS
from pipeline.record import Position

STREAM = StreamSettings(name="kcl-daemon", application="kcl-daemon")
DEFAULTS = KclSettings()
SHARDS, RECORDS, DEADLINE_S = 2, 40, 60.0


@dataclasses.dataclass
class Host:
    """Answers every message at once, and checkpoints what it has received."""

    began: dict[str, Position | None] = dataclasses.field(default_factory=dict)
    data: list[bytes] = dataclasses.field(default_factory=list)
    checkpoints: list[CheckpointAnswer] = dataclasses.field(default_factory=list)
    drained: set[str] = dataclasses.field(default_factory=set)
    ended: set[str] = dataclasses.field(default_factory=set)
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shard_id = ""
        await reader.readexactly(TOKEN_BYTES)
        try:
            while line := await reader.readline():
                message = decode(line, shard_id)
                match message:
                    case Initialize():
                        shard_id = message.shard_id
                        self.began[shard_id] = message.checkpoint
                    case ProcessRecords() if message.records:
                        last = message.records[-1].position
                        writer.write(encode_checkpoint(last))
                        self.checkpoints.append(decode(await reader.readline(), shard_id))  # type: ignore[arg-type]
                        self.data += [record.data for record in message.records]
                    case ShardEnded():
                        writer.write(encode_checkpoint(None))
                        self.checkpoints.append(decode(await reader.readline(), shard_id))  # type: ignore[arg-type]
                        self.ended.add(shard_id)
                    case ShutdownRequested():
                        self.drained.add(shard_id)
                name = type(message).__name__
                writer.write(encode_status(name[0].lower() + name[1:]))
                self.changed.set()
        except ConnectionError:
            return  # killed: the JVM closes nothing
        finally:
            writer.close()

    async def everything(self, daemon: Daemon, records: int = RECORDS) -> None:
        """Return when all records that were put have arrived."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.data) < records:
                assert daemon.running
                self.changed.clear()
                await self.changed.wait()

    async def leave(self, daemon: Daemon) -> None:
        """Drain every shard, then end the JVM."""
        daemon.terminate()
        async with asyncio.timeout(DEADLINE_S):
            while self.drained | self.ended != set(self.began):
                self.changed.clear()
                await self.changed.wait()
        daemon.kill()
        await daemon.wait()


@asynccontextmanager
async def worker(aws: LocalAWS, worker_id: str, kcl: KclSettings = DEFAULTS) -> AsyncIterator[tuple[Daemon, Host]]:
    host = Host()
    daemon = Daemon(kcl, STREAM, worker_id, AwsEndpoints.from_environment(aws.env))
    SocketAuth(daemon.socket_path)  # leaves a token there, which every bridge says first
    server = await asyncio.start_unix_server(host.session, daemon.socket_path, limit=64 << 20)
    try:
        await daemon.start()
        yield daemon, host
    finally:
        await daemon.close()
        server.close()
        await server.wait_closed()


def put(aws: LocalAWS, start: int) -> set[bytes]:
    data = {f"record {number}".encode() for number in range(start, start + RECORDS)}
    entries = [{"Data": item, "PartitionKey": item.decode()} for item in data]
    aws.client("kinesis").put_records(StreamName=STREAM.name, Records=entries)
    return data


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        for name, value in local.env.items():
            monkeypatch.setenv(name, value)
        kinesis = local.client("kinesis")
        kinesis.create_stream(StreamName=STREAM.name, ShardCount=SHARDS)
        kinesis.get_waiter("stream_exists").wait(StreamName=STREAM.name, WaiterConfig={"Delay": 1})
        yield local


def reshard(aws: LocalAWS, target: int) -> None:
    kinesis = aws.client("kinesis")
    kinesis.update_shard_count(StreamName=STREAM.name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM.name, WaiterConfig={"Delay": 1})


async def life(aws: LocalAWS, worker_id: str) -> tuple[Host, float]:
    """Read everything, leave, and release the leases. Return the seconds until everything had arrived."""
    began = time.monotonic()
    async with worker(aws, worker_id) as (daemon, host):
        await host.everything(daemon)
        seconds = time.monotonic() - began
        await host.leave(daemon)
    await asyncio.to_thread(leases.release, aws.client("dynamodb"), STREAM.application, worker_id)
    return host, seconds


async def life_in_fan_out(aws: LocalAWS, worker_id: str) -> tuple[Host, set[bytes]]:
    """Read everything, and as much again after a reshard; then leave."""
    async with worker(aws, worker_id, KclSettings(properties={"retrievalMode": "FANOUT"})) as (daemon, host):
        await host.everything(daemon)
        await asyncio.to_thread(reshard, aws, 2 * SHARDS)
        late = put(aws, 2 * RECORDS)
        await host.everything(daemon, 2 * RECORDS)
        await host.leave(daemon)
    return host, late


def test_a_worker_starts_and_leaves_and_another_continues_in_fan_out(
    aws: LocalAWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamodb, kinesis = aws.client("dynamodb"), aws.client("kinesis")
    tables.make_tables(dynamodb, STREAM.application)
    assert len(seed(dynamodb, kinesis, STREAM.application, STREAM.name, STREAM.start)) == SHARDS
    before = put(aws, 0)
    host, seconds = asyncio.run(life(aws, "first"))
    assert (set(host.data), len(host.data)) == (before, RECORDS)
    assert set(host.began.values()) == {None}
    assert [answer.error for answer in host.checkpoints] == [None] * len(host.checkpoints)
    assert seconds < 20

    left = leases.read(dynamodb, STREAM.application)
    assert {lease.owner for lease in left} == {""}
    after = put(aws, RECORDS)
    aws.calls(forget=True)
    monkeypatch.delitem(kcl_properties.OURS, "retrievalMode")  # ours polls: what is tried is the local AWS
    host, late = asyncio.run(life_in_fan_out(aws, "second"))
    assert (set(host.data), len(host.data)) == (after | late, 2 * RECORDS)
    children = dict.fromkeys(host.began.keys() - host.ended)
    assert (len(children), host.began) == (2 * SHARDS, {lease.shard_id: lease.checkpoint for lease in left} | children)
    assert [answer.error for answer in host.checkpoints] == [None] * len(host.checkpoints)
    calls = aws.calls()["kinesis"]
    assert calls["SubscribeToShard"] >= 3 * SHARDS
    assert "GetRecords" not in calls
