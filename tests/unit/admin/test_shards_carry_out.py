"""Carrying out a plan on the local Kinesis: interrupted, refused, overtaken; and the log of calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumer.admin.shards.carry_out import ReshardOutside, carry_out, until_active
from consumer.admin.shards.changes import (
    ReshardPlan,
    ReshardRequest,
    ReshardStep,
    Scale,
    Split,
    SplitShard,
    StreamState,
    UpdateShardCount,
)
from consumer.admin.shards.planner import plan
from consumer.admin.shards.recounts import Budget, Log, RecountCall, budget, parsed, seconds
from consumer.aws import shards
from consumer.local.kinesis.errors import KinesisError
from pipeline.errors import PenstockError, RefusedError
from tests.support.clocked_kinesis import ClockedKinesis

STREAM, ID = "s", "arn@1"


class World:
    """A stream of three shards, with limits and its own log. Sleeping moves the clock of Kinesis."""

    def __init__(self, folder: Path) -> None:
        self.kinesis = ClockedKinesis(limits=True)
        self.outside = ReshardOutside(self.kinesis.client, lambda: self.kinesis.now_ms / 1000, self.sleep)
        self.log = Log(folder)
        self.told: list[ReshardStep] = []
        self.kinesis.client.create_stream(StreamName=STREAM, ShardCount=3)
        until_active(self.outside, STREAM)

    def sleep(self, seconds: float) -> None:
        self.kinesis.now_ms += round(1000 * seconds)

    def state(self) -> StreamState:
        summary = shards.summary(self.kinesis.client, STREAM)
        return StreamState(STREAM, shards.known(self.kinesis.client, STREAM), summary.status, summary.mode)

    def carry_out(self, request: ReshardRequest, steps: tuple[ReshardStep, ...] | None = None) -> None:
        if steps is None:
            found = plan(self.state(), request)
            assert isinstance(found, ReshardPlan)
            steps = found.steps
        carry_out(self.outside, self.state, request, steps, self.log, ID, self.told.append)

    def count(self) -> int:
        return sum(shard.open for shard in self.state().shards.values())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_scale_of_several_calls_waits_for_each(world: World) -> None:
    world.carry_out(Scale(20))
    assert world.count() == 20
    assert [str(step) for step in world.told] == [
        "UpdateShardCount to 6 (from 3)",
        "UpdateShardCount to 12 (from 6)",
        "UpdateShardCount to 20 (from 12)",
    ]
    calls = world.log.calls(ID)
    assert [call.changes for call in calls] == [3, 6, 8]
    assert all(call.took_s is not None for call in calls)


def test_an_interrupted_scale_continues_where_it_stopped(world: World) -> None:
    sleeps = 0

    def interrupt(seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 2:
            raise KeyboardInterrupt
        world.sleep(seconds)

    whole = plan(world.state(), Scale(20))
    assert isinstance(whole, ReshardPlan)
    outside = ReshardOutside(world.outside.kinesis, world.outside.clock, interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry_out(outside, world.state, Scale(20), whole.steps, world.log, ID, world.told.append)
    assert world.told == list(whole.steps[:1]), "the second call was made, and nobody waited for it"
    until_active(world.outside, STREAM)
    rest = plan(world.state(), Scale(20))
    assert isinstance(rest, ReshardPlan)
    assert rest.steps == whole.steps[2:]
    world.carry_out(Scale(20))
    assert world.count() == 20
    assert world.kinesis.calls["UpdateShardCount"] == 3
    assert len(world.log.calls(ID)) == 3, "a call counts though nobody saw its end"


def before(world: World, act: Callable[[str, int], None]) -> None:
    """``act`` is called with each operation, and how often it was called before."""

    def heard(operation: str, request: dict[str, Any]) -> None:
        act(operation, world.kinesis.calls[operation])

    world.kinesis.before = heard


def test_a_call_that_kinesis_does_not_take_now_is_made_again(world: World) -> None:
    def busy(operation: str, calls: int) -> None:
        if operation == "SplitShard" and calls <= 2:
            raise KinesisError("LimitExceededException", "Rate exceeded")

    before(world, busy)
    world.carry_out(Split("shardId-000000000001"))
    assert world.count() == 4
    assert len(world.log.calls(ID)) == 1, "refused calls count for nothing"


def test_a_call_that_is_never_taken_ends_with_kinesiss_reason(world: World) -> None:
    def busy(operation: str, calls: int) -> None:
        if operation == "SplitShard":
            raise KinesisError("LimitExceededException", "Rate exceeded")

    before(world, busy)
    with pytest.raises(world.kinesis.client.exceptions.LimitExceededException):
        world.carry_out(Split("shardId-000000000001"))
    assert world.kinesis.calls["SplitShard"] == 6


def test_a_limit_that_does_not_pass_is_reported_at_once(world: World) -> None:
    for count in (4, 3) * 5:
        world.carry_out(Scale(count))
    with pytest.raises(world.kinesis.client.exceptions.LimitExceededException):
        world.carry_out(Scale(4))
    assert world.kinesis.calls["UpdateShardCount"] == 11


def test_a_foreign_change_of_the_stream_stops_the_plan(world: World) -> None:
    found = plan(world.state(), Scale(12))
    assert isinstance(found, ReshardPlan)
    shards.split(world.kinesis.client, STREAM, "shardId-000000000000", 1 << 120)
    until_active(world.outside, STREAM)
    with pytest.raises(RefusedError, match="someone else"):
        world.carry_out(Scale(12), found.steps)
    assert world.kinesis.calls["UpdateShardCount"] == 0


def test_a_call_whose_answer_was_lost_is_not_made_twice(world: World) -> None:
    found = plan(world.state(), Split("shardId-000000000001"))
    assert isinstance(found, ReshardPlan)

    def lose(operation: str, calls: int) -> None:
        """The call counts, although botocore, which got no answer, repeats it."""
        if operation == "SplitShard" and calls == 1:
            step = found.steps[0]
            assert isinstance(step, SplitShard)
            shards.split(world.kinesis.client, STREAM, step.shard_id, step.at)
            raise KinesisError("ResourceInUseException", "Stream s is UPDATING")

    before(world, lose)
    world.carry_out(Split("shardId-000000000001"))
    assert world.count() == 4
    assert world.kinesis.calls["SplitShard"] == 2


def test_a_stream_that_is_never_active_is_an_error(world: World) -> None:
    shards.recount(world.kinesis.client, STREAM, 4)
    outside = ReshardOutside(world.outside.kinesis, iter(range(0, 100_000, 2_000)).__next__, lambda seconds: None)
    with pytest.raises(PenstockError, match="still UPDATING"):
        until_active(outside, STREAM)


# -- the log and the budget


def test_the_log_ignores_foreign_lines(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.end(log.begin(ID, UpdateShardCount(2, 4), 10.0), took_s=6.0)
    log.end(log.begin(ID, UpdateShardCount(4, 8), 20.0), refused=True)
    log.begin("another", UpdateShardCount(4, 8), 20.0)
    others = ["", "[1]", "7", '{"id":', '{"call": "no id"}', f'{{"id": "x", "stream": "{ID}", "at_s": "noon"}}']
    lines = [*log.path.read_text().splitlines(), *others]
    assert parsed(lines, ID) == [RecountCall(ID, "UpdateShardCount", 10.0, 2, 6.0)]
    assert seconds((UpdateShardCount(4, 8),), parsed(lines, ID)) == 12.0
    assert Log(tmp_path / "nowhere").calls(ID) == []
    assert seconds((UpdateShardCount(4, 8),), []) is None, "unknown, and not 0"


def call(at_s: float) -> RecountCall:
    return RecountCall(ID, "UpdateShardCount", at_s, 1)


def test_the_budget_counts_each_call_once_and_only_a_day_back() -> None:
    now_s = 100_000.0
    recorded = [1_000.0, 50_000.0, 60_000.0]
    assert budget(recorded, [call(50_010.0), call(99_990.0)], now_s) == Budget(7, "by CloudTrail")
    own = budget(None, [call(1_000.0), call(50_010.0)], now_s)
    assert (own.left, own.source.split(",")[0]) == (9, "by this machine's own log")
    assert budget(None, [], now_s).left is None
    full = budget([20_000.0 + n * 100 for n in range(10)], [], now_s)
    assert (full.left, full.next_s) == (0, 20_000.0 + 86_400)
