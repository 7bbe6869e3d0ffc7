"""Where a checkpoint may be: not after what is durable, and never inside an aggregate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.kcl.checkpoint import CheckpointTracker
from consumer.leases.leases import as_kcl_has_it
from consumer.testing.aggregates import aggregate
from pipeline.aggregate import Aggregate, aggregate_or_record
from pipeline.record import Position, Record


def records(*sizes: int, first: int = 10) -> list[Record]:
    """An aggregate of each size; 1 is a plain record."""
    payloads = [b"{}" if size == 1 else aggregate([b"{}"] * size) for size in sizes]
    return [aggregate_or_record(Record("s", data, "k", str(first + n), 0, 1)) for n, data in enumerate(payloads)]


def test_with_an_aggregate_partly_durable_the_checkpoint_is_before_it() -> None:
    tracker = CheckpointTracker(None)
    tracker.deliver(records(1, 3, 1))
    assert tracker.due(Position(11, 1)) == Position(10, 0)
    tracker.accept(Position(10, 0))
    assert tracker.due(Position(11, 1)) is None
    assert tracker.due(Position(11, 2)) == Position(11, 2)
    assert as_kcl_has_it(Position(11, 2)) == Position(11, 0)


def test_nothing_is_checkpointed_within_a_sessions_first_record() -> None:
    for start in (None, Position(9, 0)):
        tracker = CheckpointTracker(start)
        tracker.deliver(records(3))
        assert tracker.due(Position(10, 1)) is None
        assert not tracker.covers_all(Position(10, 1))
        assert tracker.due(Position(10, 2)) == Position(10, 2)
        assert tracker.covers_all(Position(10, 2))


@given(st.lists(st.lists(st.integers(1, 4), max_size=5), max_size=4), st.lists(st.integers(0, 80), max_size=12))
def test_a_checkpoint_is_the_last_whole_record_that_is_durable(messages: list[list[int]], steps: list[int]) -> None:
    tracker = CheckpointTracker(None)
    given: list[Record] = []
    for sizes in messages:
        given += (message := records(*sizes, first=10 + len(given)))
        tracker.deliver(message)
    every = [
        (Position(int(each.sequence), sub), sub == held - 1)
        for each in given
        for held in [each.count if isinstance(each, Aggregate) else 1]
        for sub in range(held)
    ]
    accepted = -1
    for step in sorted(steps):
        place = min(step, len(every) - 1)
        if place < 0:
            return
        whole = max((n for n in range(place + 1) if every[n][1]), default=-1)
        due = tracker.due(every[place][0])
        assert due == (every[whole][0] if whole > accepted else None)
        if due is not None:
            tracker.accept(due)
            accepted = whole
