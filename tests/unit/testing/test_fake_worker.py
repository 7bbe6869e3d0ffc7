"""KCL's workers as fakes, with real sessions: leases are taken, shared, lost and handed over; parents come first."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from consumer.kcl.protocol import Message
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Wire
from consumer.testing import SHARD_END, FakeKcl, FakeLeases, FakeStream, FakeWorker, ProtocolBroken, Throttled
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, SimulatedLoop

PARENT, LEFT, RIGHT = (f"shardId-{number:012}" for number in range(3))


@dataclass
class Rig:
    stream: FakeStream
    leases: FakeLeases
    sinks: dict[str, FakeSink] = field(default_factory=dict)
    running: list[asyncio.Task[None]] = field(default_factory=list)

    def worker(self, name: str) -> FakeWorker:
        """Join a task: its own stage and sink."""
        sink = self.sinks[name] = FakeSink()
        clock = asyncio.get_running_loop().time
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.01)
        stage = Stage(FakeJudge(), batcher, [sink], Bounds(100, 10**9), Metrics(), clock=clock)
        leaving, metrics = asyncio.Event(), Metrics()

        def connect(wire: Wire) -> None:
            session = ShardSession(
                wire, stage, lambda name: Shard("events", 1, name), leaving, metrics.records, decoded
            )
            self.running.append(asyncio.create_task(session.run()))

        worker = FakeWorker(name, self.stream, self.leases, connect)
        self.running += [asyncio.create_task(stage.run()), asyncio.create_task(worker.run())]
        return worker

    def put(self, shard_id: str, count: int) -> None:
        for _ in range(count):
            self.stream.put(shard_id, [b"{}"], arrived_ms=1)

    def read(self) -> int:
        return sum(len(records) for sink in self.sinks.values() for records in sink.rows.values())


async def decoded(line: bytes, decode: Callable[[], Message]) -> Message:
    return decode()


def rigged(body: Callable[[Rig], Awaitable[None]], shards: int = 1) -> None:
    async def main() -> None:
        stream = FakeStream(shards)
        rig = Rig(stream, FakeLeases(stream, asyncio.get_running_loop().time))
        try:
            await body(rig)
        finally:
            for task in rig.running:
                task.cancel()
            await asyncio.gather(*rig.running, return_exceptions=True)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


def test_a_worker_reads_its_shards_and_checkpoints_them() -> None:
    async def body(rig: Rig) -> None:
        rig.put(PARENT, 20)
        rig.worker("a")
        await asyncio.sleep(20)
        assert rig.read() == 20
        assert rig.leases[PARENT].checkpoint == rig.stream.shards[PARENT].positions[-1]

    rigged(body)


def test_children_are_read_once_their_parent_has_ended() -> None:
    async def body(rig: Rig) -> None:
        rig.put(PARENT, 5)
        assert rig.stream.split(PARENT) == (LEFT, RIGHT)
        for child in (LEFT, RIGHT):
            rig.put(child, 5)
        rig.worker("a")
        await asyncio.sleep(30)
        assert rig.leases[PARENT].checkpoint == SHARD_END
        assert rig.read() == 15
        assert list(rig.sinks["a"].rows) == [PARENT, LEFT, RIGHT]

    rigged(body)


def test_workers_share_the_leases_and_take_over_those_of_the_dead() -> None:
    async def body(rig: Rig) -> None:
        rig.worker("a")
        await asyncio.sleep(10)
        rig.worker("b")
        await asyncio.sleep(30)
        assert sorted(lease.owner for lease in rig.leases) == ["a", "a", "b", "b"]
        rig.running[1].cancel()
        await asyncio.sleep(40)
        assert {lease.owner for lease in rig.leases} == {"b"}

    rigged(body, shards=4)


def test_a_shard_that_is_handed_off_may_come_back() -> None:
    async def body(rig: Rig) -> None:
        worker = rig.worker("a")
        await asyncio.sleep(10)
        first = rig.leases[PARENT].counter
        worker.hand_off(PARENT)
        await asyncio.sleep(10)
        rig.put(PARENT, 3)
        await asyncio.sleep(10)
        assert rig.leases[PARENT].counter > first
        assert rig.read() == 3

    rigged(body)


def test_throttled_calls_are_made_again() -> None:
    async def body(rig: Rig) -> None:
        refused = iter([True, False] * 1000)

        def before(operation: str, shard_id: str) -> None:
            if next(refused):
                raise Throttled(operation)

        rig.leases.before = rig.stream.before = before
        rig.put(PARENT, 5)
        rig.stream.split(PARENT)
        rig.worker("a")
        await asyncio.sleep(120)
        assert rig.leases[PARENT].checkpoint == SHARD_END

    rigged(body)


@pytest.mark.parametrize("line", [b'{"action":"status","responseFor":"shardEnded"}', b'{"action":"checkpoint"}'])
def test_messages_that_kcl_would_not_accept_are_errors(line: bytes) -> None:
    async def main() -> None:
        kcl = FakeKcl()
        kcl.begin("initialize", shardId=PARENT, sequenceNumber="LATEST", subSequenceNumber=0)
        with pytest.raises(ProtocolBroken):
            await kcl.write(line)

    asyncio.run(main())
