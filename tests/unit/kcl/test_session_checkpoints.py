"""A session's checkpoints: when they are sent, and what follows from KCL's answers."""

import pytest

from consumer.kcl.session import AT_ONCE
from consumer.kcl.session_states import SessionState
from consumer.testing import aggregate, row
from pipeline.record import Position
from pipeline.testing import SimulatedLoop
from tests.support.session_rig import SHARD_ID, Rig, SlowJudge, rigged


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
