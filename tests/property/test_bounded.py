"""A shard of a slice, with a KCL that reads ahead and stalls: every record of the slice is taken, and no other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from consumer.config.kcl_properties import READS_AHEAD
from consumer.kcl.bounded import MARGIN_MS, RateLimit, ShardSlice, Slice
from pipeline.record import Record

SHARD = "shardId-000000000000"
FROM_MS, TO_MS = 10_000, 40_000


@dataclass(frozen=True)
class Message:
    records: list[Record]
    behind_ms: int


def record(number: int, arrived_ms: int) -> Record:
    return Record(SHARD, b"", None, str(number), 0, arrived_ms)


@st.composite
def shards(draw: st.DrawFn) -> list[tuple[int, Record]]:
    """Records, and when each can be read: their arrival times are out of order by at most the margin."""
    pauses = draw(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 8_000)), max_size=40))
    readable_ms, found = 0, []
    for number, pause in enumerate(pauses):
        readable_ms += pause
        late_ms = draw(st.integers(0, MARGIN_MS // 2))
        found.append((readable_ms, record(number, max(0, readable_ms - late_ms))))
    return found


def replayed(shard: list[tuple[int, Record]], begin_ms: int, limit: int, steps: list[tuple[bool, int]]) -> list[Record]:
    """Return what is taken. ``steps``: whether KCL reads or delivers if it can do both, and how long that takes."""
    sliced, taken, queue = ShardSlice(Slice(FROM_MS, TO_MS), SHARD), list[Record](), deque[Message]()
    at, now_ms, turn = 0, float(begin_ms), 0
    while not sliced.beyond:
        reads, took_ms = steps[turn % len(steps)] if turn < 1_000 else (turn % 2 == 0, 100)
        turn += 1
        if len(queue) < READS_AHEAD and (reads or not queue):
            there = [each for readable_ms, each in shard[at:] if readable_ms <= now_ms]
            at += len(there[:limit])
            queue.append(Message(there[:limit], 0 if len(there) <= limit else 1_000))
        else:
            message = queue.popleft()
            taken += sliced.take(message.records, message.behind_ms, now_ms)
        now_ms += took_ms
    return taken


STALL = [*[(True, 1)] * (READS_AHEAD - 1), (True, 20_000), *[(False, 1)] * READS_AHEAD]
"""KCL reads ahead as far as it can, and delivers all of it 20 seconds later."""


@given(
    shards(),
    st.integers(0, 60_000),
    st.integers(1, 20),
    st.lists(st.tuples(st.booleans(), st.one_of(st.integers(1, 300), st.integers(1, 20_000))), min_size=1, max_size=20),
)
@example([(35_000, record(0, 35_000))], 30_000, 10, STALL)
def test_all_of_a_slice_is_taken_once_and_nothing_else(
    shard: list[tuple[int, Record]], begin_ms: int, limit: int, steps: list[tuple[bool, int]]
) -> None:
    taken = replayed(shard, begin_ms, limit, steps)
    assert taken == [each for _, each in shard if FROM_MS <= each.arrived_ms < TO_MS]


def test_an_idle_shard_is_passed_by_the_message_after_those_that_may_be_old() -> None:
    sliced = ShardSlice(Slice(FROM_MS, TO_MS), SHARD)
    for _ in range(READS_AHEAD):
        sliced.take([], 0, TO_MS + MARGIN_MS)
        assert not sliced.beyond
    sliced.take([], 0, TO_MS + MARGIN_MS)
    assert sliced.beyond


def test_a_shard_that_lags_or_is_before_the_end_is_never_idle() -> None:
    sliced = ShardSlice(Slice(FROM_MS, TO_MS), SHARD)
    for _ in range(3 * READS_AHEAD):
        sliced.take([], 0, TO_MS + MARGIN_MS - 1)
        sliced.take([], None, TO_MS - 1)
    for _ in range(3 * READS_AHEAD):
        sliced.take([], 1, TO_MS + MARGIN_MS)
    assert not sliced.beyond


def test_of_shards_that_are_not_wanted_nothing_is_taken() -> None:
    bounds = Slice(FROM_MS, TO_MS, shards=frozenset({"child"}), through=frozenset({SHARD}))
    assert ShardSlice(bounds, "other").beyond
    parent = ShardSlice(bounds, SHARD)
    assert not parent.take([record(1, FROM_MS)], 0, TO_MS)
    assert not parent.beyond
    assert ShardSlice(bounds, "child").take([record(1, FROM_MS)], 0, TO_MS)


@given(st.floats(0.5, 5_000), st.lists(st.tuples(st.integers(0, 1_000), st.floats(0, 3)), min_size=1, max_size=30))
def test_a_rate_is_never_passed_once_its_time_has_come(per_second: float, takes: list[tuple[int, float]]) -> None:
    limit, now_s, total = RateLimit(per_second), 0.0, 0
    for records, pause_s in takes:
        free_s = limit.take(records, now_s)
        total += records
        assert free_s >= total / per_second - 1e-6
        now_s = free_s + pause_s


def test_without_a_rate_there_is_no_wait() -> None:
    assert RateLimit(0).take(1_000_000, 5.0) == 5.0
