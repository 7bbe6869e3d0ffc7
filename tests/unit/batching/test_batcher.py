"""When batches are due, and which records they contain."""

from __future__ import annotations

from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.record import Record


def batcher(max_records: int = 8, max_cost: int = 0, linger_s: float = 0.02, *, bucket_records: int = 0) -> Batcher:
    return Batcher(max_records=max_records, max_cost=max_cost, linger_s=linger_s, bucket_records=bucket_records)


def records(*costs: int, first: int = 0) -> list[Record]:
    return [Record("s", b"", "key", str(first + i), 0, 0, cost=cost) for i, cost in enumerate(costs)]


def costs(batch: list[Record]) -> list[int]:
    return [record.cost for record in batch]


def test_nothing_waits_at_first() -> None:
    empty = batcher()
    assert (len(empty), empty.due_at(), empty.take(0.0), empty.take(0.0, draining=True)) == (0, None, [], [])


def test_a_few_records_linger_and_no_longer() -> None:
    waiting = batcher()
    waiting.add("a", records(1, 1), now=10.0)
    waiting.add("a", records(1), now=10.01)
    assert waiting.due_at() == 10.02
    assert waiting.take(10.019) == []
    assert len(waiting.take(10.02)) == 3
    assert waiting.due_at() is None


def test_remaining_records_linger_from_their_arrival() -> None:
    waiting = batcher(max_records=4)
    waiting.add("a", records(1, 1, 1), now=10.0)
    waiting.add("a", records(1, 1), now=10.01)
    assert len(waiting.take(10.01)) == 4
    assert waiting.due_at() == 10.01 + 0.02


def test_a_full_batch_is_due_at_once() -> None:
    waiting = batcher()
    waiting.add("a", records(*[1] * 8), now=10.0)
    due_at = waiting.due_at()
    assert due_at is not None and due_at <= 10.0
    assert len(waiting.take(10.0)) == 8


def test_a_deep_backlog_never_lingers() -> None:
    waiting = batcher()
    waiting.add("a", records(*[1] * 80), now=10.0)
    assert [len(waiting.take(10.0)) for _ in range(11)] == [8] * 10 + [0]


def test_draining_does_not_linger() -> None:
    waiting = batcher()
    waiting.add("a", records(1), now=10.0)
    assert len(waiting.take(10.0, draining=True)) == 1


def test_costs_fill_a_batch_too() -> None:
    waiting = batcher(max_cost=10)
    waiting.add("a", records(4, 4), now=0.0)
    assert waiting.take(0.0) == []
    waiting.add("a", records(4), now=0.0)
    assert costs(waiting.take(0.0)) == [4, 4]


def test_padded_costs_count_the_dearest_for_all() -> None:
    waiting = batcher(max_cost=20, bucket_records=512)
    waiting.add("a", records(10, 9, 10), now=0.0)
    assert costs(waiting.take(0.0)) == [10, 10]
    assert costs(waiting.take(1.0)) == [9]


def test_an_item_far_longer_than_the_others_drags_none_along() -> None:
    waiting = batcher(bucket_records=512)
    waiting.add("a", records(5, 5, 300, 5, 5), now=0.0)
    assert [costs(waiting.take(1.0)) for _ in range(2)] == [[5, 5, 5, 5], [300]]


def test_padding_is_taken_where_a_call_costs_more() -> None:
    waiting = batcher(bucket_records=512)
    waiting.follow(BatchPlan(call_cost=20))
    waiting.add("a", records(8, 10, 10, 99), now=0.0)
    assert [costs(waiting.take(1.0)) for _ in range(2)] == [[8, 10, 10], [99]]


def test_similar_records_are_searched_in_all_lanes_within_bucket_records() -> None:
    waiting = Batcher(max_records=8, max_cost=0, linger_s=0.02, bucket_records=6)
    waiting.add("a", records(7, 300, 300, 7), now=0.0)
    waiting.add("b", records(50, 60, 7, 7), now=0.0)
    assert costs(waiting.take(1.0)) == [7, 7]
    assert waiting.take(1.0)[0].cost == 50


def test_the_oldest_left_of_a_lane_says_when_it_is_due() -> None:
    waiting = batcher(bucket_records=512)
    waiting.add("a", records(5, 300), now=10.0)
    waiting.add("a", records(5), now=10.01)
    assert costs(waiting.take(10.02)) == [5, 5]
    assert waiting.due_at() == 10.02
    waiting.add("a", records(5), now=10.015)
    assert costs(waiting.take(10.02)) == [300]
    assert waiting.due_at() == 10.015 + 0.02


def test_a_record_over_the_budget_goes_alone() -> None:
    waiting = batcher(max_cost=10)
    waiting.add("a", records(3, 99, 3), now=0.0)
    assert [costs(waiting.take(1.0)) for _ in range(3)] == [[3], [99], [3]]


def test_a_lane_whose_next_record_does_not_fit_leaves_room_for_others() -> None:
    waiting = batcher(max_cost=10)
    waiting.add("a", records(6, 6), now=0.0)
    waiting.add("b", records(2, 2), now=0.0)
    assert costs(waiting.take(0.0)) == [6, 2, 2]
    assert costs(waiting.take(1.0)) == [6]


def test_a_hot_lane_leaves_the_others_their_share() -> None:
    waiting = batcher(max_records=9)
    waiting.add("hot", records(*[1] * 100), now=0.0)
    waiting.add("mild", records(*[2] * 5), now=0.0)
    waiting.add("cool", records(3), now=0.0)
    assert sorted(costs(waiting.take(0.0))) == [1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_more_lanes_than_a_batch_holds_take_turns() -> None:
    waiting = batcher(max_records=2)
    for lane in range(4):
        waiting.add(lane, records(lane, lane), now=0.0)
    assert [costs(waiting.take(0.0)) for _ in range(4)] == [[0, 1], [2, 3], [0, 1], [2, 3]]


def test_a_dropped_lane_is_forgotten() -> None:
    waiting = batcher(max_cost=100)
    waiting.add("lost", records(60, 60), now=0.0)
    waiting.add("kept", records(5), now=0.0)
    waiting.drop("lost")
    waiting.drop("never there")
    assert len(waiting) == 1
    assert waiting.take(0.0) == []
    assert costs(waiting.take(1.0)) == [5]


def test_a_memory_limit_applies_to_batches_at_once() -> None:
    waiting = batcher()
    waiting.add("a", records(*[1] * 8), now=0.0)
    waiting.follow(BatchPlan(cost=3))
    assert [len(waiting.take(0.0)) for _ in range(3)] == [3, 3, 0]
    waiting.follow(BatchPlan(cost=0))
    waiting.add("a", records(*[1] * 6), now=0.0)
    assert len(waiting.take(0.0)) == 8


def test_both_memory_and_the_budget_limit_batches() -> None:
    waiting = batcher(max_cost=10)
    waiting.follow(BatchPlan(cost=99))
    waiting.add("a", records(*[4] * 6), now=0.0)
    assert costs(waiting.take(0.0)) == [4, 4]
    waiting.follow(BatchPlan(cost=7))
    assert [costs(waiting.take(0.0)) for _ in range(2)] == [[4], [4]]


def test_the_memory_limit_counts_padding() -> None:
    waiting = batcher(bucket_records=512)
    waiting.add("a", records(10, 11, 11), now=0.0)
    waiting.follow(BatchPlan(cost=32))
    assert [costs(waiting.take(0.0)) for _ in range(2)] == [[10, 11], []]
    assert costs(waiting.take(1.0)) == [11]


def test_plans_bound_batches_within_the_settings() -> None:
    waiting = batcher()
    waiting.add("a", records(*[1] * 30), now=0.0)
    waiting.follow(BatchPlan(records=3))
    assert len(waiting.take(0.0)) == 3
    waiting.follow(BatchPlan(records=99))
    assert len(waiting.take(0.0)) == 8


def test_records_may_be_patient() -> None:
    waiting = batcher()
    waiting.add("a", records(1), now=10.0)
    assert (waiting.due_at(5.0), waiting.due_at(0.001)) == (15.0, 10.02)
    assert waiting.take(14.0, may_wait_s=5.0) == []
    assert len(waiting.take(15.0, may_wait_s=5.0)) == 1
