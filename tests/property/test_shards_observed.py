"""The sketch of the hottest keys, and the position of a weighted split."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consumer.admin.shards.keyspace import SPACE, may_split
from consumer.admin.shards.observed import HottestKeys, Median, NoMedian, Sampled, hottest, median, weights_of
from pipeline.hash_keys import HashRange, hash_of

ALL = HashRange(0, SPACE - 1)
NAMES = st.lists(st.sampled_from([f"key-{n}" for n in range(40)]), min_size=1, max_size=400)


@given(NAMES, st.integers(1, 10))
def test_the_sketch_keeps_every_hot_key_and_its_bounds_hold(keys: list[str], capacity: int) -> None:
    sketch, true = HottestKeys(capacity), Counter(keys)
    for key in keys:
        sketch.add(key, 1)
    found = {hot.key: hot for hot in sketch.top(capacity)}
    assert len(found) <= capacity
    assert sketch.total == len(keys)
    for hot in found.values():
        assert hot.least <= true[hot.key] <= hot.most
    assert {key for key, count in true.items() if count > len(keys) / capacity} <= found.keys()


def test_with_room_for_all_keys_the_sketch_is_exact() -> None:
    keys = ["a"] * 5 + ["b"] * 3 + ["c"]
    top, count = hottest((Sampled(key, 1) for key in keys), 2)
    assert [(hot.key, hot.least, hot.most) for hot in top] == [("a", 5, 5), ("b", 3, 3)]
    assert count == 9


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 50)), min_size=1, max_size=40))
def test_no_other_split_between_seen_keys_is_more_even(load: list[tuple[int, int]]) -> None:
    records = [Sampled(f"key-{key}", 1) for key, times in load for _ in range(times)]
    weights = weights_of(ALL, records)
    found = median("s", weights)
    heaviest = max(weights.at.values())
    if isinstance(found, NoMedian):
        assert len(records) < 100 or 2 * heaviest > len(records)
        return
    assert 2 * heaviest <= len(records)
    assert may_split(ALL, found.at)
    places = [hash_of(record.key or "") for record in records]

    def lower(at: int) -> int:
        return sum(place < at for place in places)

    assert abs(found.lower - lower(found.at) / len(records)) < 1e-9
    best = min(abs(2 * lower(at) - len(records)) for at in {*places} if lower(at))
    assert abs(2 * lower(found.at) - len(records)) == best
    assert abs(found.lower - 0.5) <= heaviest / len(records) / 2 + 1e-9, "no further off than half the heaviest key"


def test_one_key_with_more_than_half_is_named_and_not_split() -> None:
    records = [Sampled("hot", 1)] * 60 + [Sampled(f"k{n}", 1) for n in range(40)]
    found = median("shardId-7", weights_of(ALL, records))
    assert isinstance(found, NoMedian)
    assert found.key == "hot"
    assert "'hot' alone carries 60 % of shardId-7" in found.why


def test_bytes_weigh_where_they_are_nearer_to_the_limit() -> None:
    records = [Sampled("fat", 50_000)] * 40 + [Sampled(f"k{n}", 100) for n in range(400)]
    weights = weights_of(ALL, records)
    assert weights.by_bytes
    found = median("s", weights)
    assert isinstance(found, NoMedian)
    assert found.key == "fat"


def test_records_with_unknown_hash_keys_do_not_justify_a_split() -> None:
    lower = HashRange(0, SPACE // 2 - 1)
    outside = next(key for key in map(str, range(100)) if hash_of(key) > lower.last)
    found = median("s", weights_of(lower, [Sampled(outside, 1)] * 200))
    assert isinstance(found, NoMedian)
    assert "100 % of s's sampled load has an explicit hash key" in found.why


def test_a_user_record_of_a_foreign_key_falls_where_its_aggregate_does() -> None:
    lower = HashRange(0, SPACE // 2 - 1)
    names = [str(n) for n in range(400)]
    inside = [key for key in names if hash_of(key) <= lower.last]
    outside = next(key for key in names if hash_of(key) > lower.last)
    weights = weights_of(lower, [Sampled(outside, 1, key) for key in inside])
    assert weights.unplaced == 0
    assert isinstance(median("s", weights), Median)


def test_a_sample_that_is_too_small_says_so() -> None:
    found = median("s", weights_of(ALL, [Sampled("a", 1), Sampled("b", 1)]))
    assert isinstance(found, NoMedian)
    assert "too few records in the sample: 2 records" in found.why
