"""A shard session with a fake KCL: its answers, its checkpoints, and what it never does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from consumer.kcl.bridge_server import Decoder
from consumer.kcl.session import AT_ONCE, ShardSession
from consumer.kcl.session_states import TRANSITIONS, SessionState
from consumer.testing import FakeKcl, aggregate, row
from pipeline.batching.batcher import Batcher
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Position, Record, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, SimulatedLoop

DEADLINE_S = 5
BEAT_LATE_S = 0.25
BEATS_MEANWHILE = 5
SHARD_ID = "shardId-000000000000"


@dataclass
class Rig:
    kcl: FakeKcl
    judge: FakeJudge
    sink: FakeSink
    session: ShardSession
    leaving: asyncio.Event
    running: asyncio.Task[None]
    start: Callable[[FakeKcl], ShardSession]

    def beside(self, kcl: FakeKcl) -> asyncio.Task[None]:
        """Another shard's session on the same stage, until its KCL closes it."""
        return asyncio.create_task(self.start(kcl).run())

    async def beat_until(self, condition: Callable[[], bool]) -> None:
        """Send empty processRecords, as KCL does, until ``condition``."""
        while not condition():
            await self.kcl.process([])
            await asyncio.sleep(0)


def shard(shard_id: str) -> Shard:
    return Shard("events", 1, shard_id)


def rigged(
    body: Callable[[Rig], Awaitable[None]],
    window: int = 100,
    *,
    judge: FakeJudge | None = None,
    sink: FakeSink | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    async def main(judge: FakeJudge, sink: FakeSink) -> None:
        metrics, leaving, clock = Metrics(), asyncio.Event(), asyncio.get_running_loop().time
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        stage = Stage(judge, batcher, [sink], Bounds(window, 10**9), metrics)
        kcl, decoder = FakeKcl(), Decoder()

        def start(kcl: FakeKcl) -> ShardSession:
            return ShardSession(kcl, stage, shard, leaving, metrics.records, decoder, clock=clock)

        session = start(kcl)
        staging, running = asyncio.create_task(stage.run()), asyncio.create_task(session.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await body(Rig(kcl, judge, sink, session, leaving, running, start))
        finally:
            for task in (staging, running):
                task.cancel()
            await asyncio.gather(staging, running, return_exceptions=True)
            decoder.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(judge or FakeJudge(), sink or FakeSink()))


def test_status_comes_before_the_model_has_answered() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1), row(2)])
        assert rig.kcl.answered == ["initialize", "processRecords"]
        assert rig.kcl.checkpoints == []

    rigged(body)


def test_checkpoints_ride_on_the_beat_once_records_are_durable() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1), row(2), row(3, aggregate([b"{}", b"{}"]))])
        await rig.beat_until(lambda: rig.kcl.checkpoints == [Position(3, 0)])

    rigged(body)


def test_nothing_is_checkpointed_while_the_sink_stalls() -> None:
    async def body(rig: Rig) -> None:
        rig.sink.stall()
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1), row(2)])
        await rig.beat_until(lambda: rig.judge.batches != [])
        for _ in range(20):
            await rig.kcl.process([])
        assert rig.kcl.checkpoints == []
        rig.sink.recover()
        await rig.beat_until(lambda: rig.kcl.checkpoints == [Position(2, 0)])

    rigged(body)


def test_a_full_window_withholds_status_until_there_is_room() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        for _ in range(AT_ONCE):
            await rig.kcl.process([])
        rig.kcl.begin("processRecords", records=[row(i) for i in range(1, 6)], millisBehindLatest=0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await rig.kcl.answer()
        rig.judge.resume()
        await rig.kcl.answer()
        assert rig.kcl.answered[-1] == "processRecords"

    rigged(body, window=5)


class SlowJudge(FakeJudge):
    """Takes a tenth of a second for a batch."""

    async def settle(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0.1)
        await super().settle(records)


def test_a_withheld_status_is_no_reason_to_checkpoint_more_than_once_a_second() -> None:
    """Each of 30 batches makes more of the shard durable."""

    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        for _ in range(AT_ONCE):
            await rig.kcl.process([])
        await rig.kcl.process([row(i) for i in range(1, 241)])
        assert len(rig.judge.batches) >= 29
        assert 2 <= len(rig.kcl.checkpoints) <= 4
        await rig.beat_until(lambda: rig.kcl.checkpoints[-1:] == [Position(240, 0)])

    rigged(body, window=5, judge=SlowJudge(), loop_factory=SimulatedLoop)


async def filling(kcl: FakeKcl) -> None:
    """More records than any limit allows."""
    for number in range(1, 100):
        await kcl.process([row(number)])
        await asyncio.sleep(0.1)


def test_room_that_a_sink_makes_without_a_word_is_found() -> None:
    async def body(rig: Rig) -> None:
        rig.sink.stall()
        await rig.kcl.initialize(SHARD_ID)
        filled = asyncio.create_task(filling(rig.kcl))
        assert not (await asyncio.wait([filled], timeout=3))[0]
        filled.cancel()
        rig.sink.bytes_per_record = 1
        await rig.kcl.answer()
        assert rig.kcl.checkpoints == []

    rigged(body, sink=FakeSink(bytes_per_record=10**9), loop_factory=SimulatedLoop)


def test_messages_that_kcl_has_read_ahead_are_answered_at_once_for_any_window() -> None:
    """A status that is withheld there may stop KCL's scheduler, and with it every other shard of the task."""

    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        for number in range(1, AT_ONCE + 1):
            await rig.kcl.process([row(10 * number + i) for i in range(6)])
        rig.kcl.begin("processRecords", records=[row(100)], millisBehindLatest=0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await rig.kcl.answer()
        rig.judge.resume()
        await rig.kcl.answer()

    rigged(body, window=5)


def test_a_leaving_task_withholds_no_status() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        for _ in range(AT_ONCE):
            await rig.kcl.process([])
        rig.kcl.begin("processRecords", records=[row(i) for i in range(1, 6)], millisBehindLatest=0)
        rig.leaving.set()
        await rig.kcl.answer()
        assert rig.kcl.answered[-1] == "processRecords"

    rigged(body, window=5)


def test_shard_end_is_checkpointed_with_nulls_after_all_is_durable() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(i) for i in range(1, 30)])
        rig.kcl.refusals = ["ThrottlingException"]
        await rig.kcl.say("shardEnded")
        assert rig.kcl.checkpoints[-1] is None
        assert len(rig.sink.rows[SHARD_ID]) == 29
        assert rig.session.over

    rigged(body)


def test_an_empty_shard_may_end() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.say("shardEnded")
        assert rig.kcl.checkpoints == [None]

    rigged(body)


def test_shutdown_finishes_and_checkpoints_what_the_model_has_begun_and_nothing_else() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(i) for i in range(1, 40)])
        await rig.judge.begun()
        rig.kcl.begin("shutdownRequested")
        rig.judge.resume()
        await rig.kcl.answer()
        assert rig.kcl.checkpoints == [Position(8, 0)]
        assert [record.sequence for record in rig.sink.rows[SHARD_ID]] == [str(i) for i in range(1, 9)]
        assert rig.session.over
        await rig.kcl.say("leaseLost")

    rigged(body)


def test_a_leaving_task_admits_nothing_more() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        rig.leaving.set()
        await rig.kcl.process([row(1), row(2)])
        await rig.kcl.say("shutdownRequested")
        assert rig.sink.rows == {} and rig.kcl.checkpoints == []

    rigged(body)


def test_a_shard_whose_last_records_were_refused_is_not_checkpointed_as_ended() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        rig.leaving.set()
        await rig.kcl.process([row(1), row(2)])
        await rig.kcl.say("shardEnded")
        assert rig.kcl.checkpoints == []

    rigged(body)


def test_lost_lease_never_checkpoints() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1)])
        await rig.kcl.say("leaseLost")
        rig.judge.resume()
        rig.kcl.close()
        await rig.running
        assert rig.kcl.checkpoints == []
        assert rig.sink.rows == {}
        assert rig.sink.writers[0].abandoned

    rigged(body)


def test_a_checkpoint_refused_for_shutdown_is_a_lost_lease() -> None:
    async def body(rig: Rig) -> None:
        rig.kcl.refusals = ["ShutdownException"]
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1)])
        await rig.beat_until(lambda: rig.session.state is SessionState.LOST)
        assert rig.sink.writers[0].abandoned
        await rig.kcl.say("leaseLost")
        assert rig.kcl.checkpoints == []

    rigged(body)


@pytest.mark.parametrize("action", ["shardEnded", "shutdownRequested", "leaseLost"])
def test_messages_after_a_refused_checkpoint_are_answered_without_one(action: str) -> None:
    async def body(rig: Rig) -> None:
        rig.kcl.refusals = ["ShutdownException"]
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1)])
        await rig.beat_until(lambda: rig.session.state is SessionState.LOST)
        await rig.kcl.process([row(2)])
        await rig.kcl.say(action)
        assert rig.kcl.answered[-1] == action
        assert rig.session.state is SessionState.LOST
        assert rig.kcl.checkpoints == []

    rigged(body)


def test_a_throttled_checkpoint_is_sent_again_on_the_next_beat() -> None:
    async def body(rig: Rig) -> None:
        rig.kcl.refusals = ["ThrottlingException"]
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1)])
        await rig.beat_until(lambda: rig.kcl.checkpoints == [Position(1, 0)])

    rigged(body)


def test_a_shard_is_believed_once_a_checkpoint_was_taken_and_not_when_its_records_are_durable() -> None:
    async def body(rig: Rig) -> None:
        rig.kcl.refusals = ["ThrottlingException"]
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1)])
        await rig.beat_until(lambda: not rig.kcl.refusals)
        assert len(rig.sink.rows[SHARD_ID]) == 1 and rig.judge.believed == []
        await rig.beat_until(lambda: rig.kcl.checkpoints == [Position(1, 0)])
        assert rig.judge.believed == [SHARD_ID]

    rigged(body)


def test_a_checkpoint_never_passes_what_was_delivered() -> None:
    async def body(rig: Rig) -> None:
        rig.sink.held[SHARD_ID] = Position(5, 0)
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1), row(2)])
        for _ in range(20):
            await rig.kcl.process([])
        assert rig.kcl.checkpoints == []
        await rig.kcl.process([row(i) for i in range(3, 8)])
        await rig.beat_until(lambda: rig.kcl.checkpoints[-1:] == [Position(7, 0)])
        assert [record.sequence for record in rig.sink.rows[SHARD_ID]] == ["6", "7"]

    rigged(body)


def test_a_message_out_of_turn_ends_the_task() -> None:
    async def body(rig: Rig) -> None:
        rig.kcl.begin("processRecords", records=[], millisBehindLatest=0)
        with pytest.raises(Fatal, match="KCL sent ProcessRecords in state new"):
            await rig.running

    rigged(body)


def test_the_transition_table_has_no_way_back_to_reading() -> None:
    back = [
        pair
        for pair, (_, state) in TRANSITIONS.items()
        if state is SessionState.READING and pair[0] is not SessionState.READING
    ]
    assert [state for state, _ in back] == [SessionState.NEW]


def test_a_large_message_is_decoded_off_the_loop() -> None:
    async def body(rig: Rig) -> None:
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(i, data=b"x" * 900) for i in range(1, 2000)])
        await rig.beat_until(lambda: rig.kcl.checkpoints[-1:] == [Position(1999, 0)])
        assert len(rig.sink.rows[SHARD_ID]) == 1999

    rigged(body, window=10_000)


def test_a_10000_record_message_does_not_stall_another_shards_beat() -> None:
    """The largest message of GetRecords. Decoded in the event loop, it would let only one or two beats through."""
    large = [row(i, data=b"x" * 900) for i in range(1, 10_001)]
    other = "shardId-000000000001"

    async def body(rig: Rig) -> None:
        kcl = FakeKcl()
        session = rig.beside(kcl)
        await rig.kcl.initialize(SHARD_ID)
        await kcl.initialize(other)
        rig.kcl.begin("processRecords", records=large, millisBehindLatest=0)
        late_s = []
        while "processRecords" not in rig.kcl.answered:
            asked = time.perf_counter()
            await kcl.process([])
            late_s.append(time.perf_counter() - asked)
        assert len(late_s) >= BEATS_MEANWHILE
        assert max(late_s) < BEAT_LATE_S
        kcl.close()
        await session

    rigged(body, window=100_000)
