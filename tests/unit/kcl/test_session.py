"""A shard session with a fake KCL: its answers, its checkpoints, and what it never does."""

import asyncio
import time

import pytest

from consumer.kcl.session import AT_ONCE
from consumer.kcl.session_states import TRANSITIONS, SessionState
from consumer.testing import FakeKcl, row
from pipeline.errors import Fatal
from pipeline.record import Position
from pipeline.testing import FakeSink, SimulatedLoop
from tests.support.session_rig import BEAT_LATE_S, BEATS_MEANWHILE, SHARD_ID, Rig, filling, rigged


def test_status_comes_before_the_model_has_answered() -> None:
    async def body(rig: Rig) -> None:
        rig.judge.pause()
        await rig.kcl.initialize(SHARD_ID)
        await rig.kcl.process([row(1), row(2)])
        assert rig.kcl.answered == ["initialize", "processRecords"]
        assert rig.kcl.checkpoints == []

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
