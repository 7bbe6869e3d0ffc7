"""A table held against its stream: what is wrong is found, exactly, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.record import Position
from pipeline.sinks.against import Arrival, compared

SHARD = "shardId-000000000000"


def arrival(number: int) -> Arrival:
    return Arrival(Position(number // 3, number % 3), f"key-{number}", 1000 + number)


def paged(numbers: Sequence[int], size: int) -> list[list[Arrival]]:
    return [[arrival(number) for number in numbers[i : i + size]] for i in range(0, len(numbers), size)]


numbers = st.lists(st.integers(0, 200), unique=True, max_size=60).map(sorted)


@given(numbers, st.integers(0, 200), st.integers(0, 60), st.data())
def test_what_is_lost_alien_or_changed_is_found_and_nothing_else(
    stream: list[int], reached: int, trimmed: int, data: st.DataObject
) -> None:
    due = [number for number in stream if number <= reached]
    lost = set(data.draw(st.lists(st.sampled_from(due), unique=True))) if due else set()
    changed = set(data.draw(st.lists(st.sampled_from(due), unique=True))) - lost if due else set()
    alien = set(data.draw(numbers)) - set(stream)
    left = stream[trimmed:]  # the oldest records have left the stream
    table = [
        arrival(number)._replace(partition_key="another") if number in changed else arrival(number)
        for number in sorted({*due, *alien} - lost)
    ]
    found = compared(SHARD, arrival(reached).position, paged(left, 7), table)
    oldest = left[0] if left else 10**9
    positions = {
        "missing": [n for n in left if n in lost],
        "differs": [n for n in left if n in changed],
        "alien": [n for n in sorted(alien) if n > oldest],
    }
    for name, expected in positions.items():
        assert getattr(found, name) == [arrival(n).position for n in expected]
    assert found.compared == len([n for n in left if n <= reached])
    assert found.behind == len([n for n in left if n > reached])
    assert found.retired == len([row for row in table if row.position < arrival(oldest).position])


@given(numbers)
def test_a_shard_that_nobody_has_read_is_behind_and_no_more(stream: list[int]) -> None:
    found = compared(SHARD, None, paged(stream, 5), [])
    assert (found.compared, found.behind, found.missing) == (0, len(stream), [])
    assert list(found.problems("events", complete=False)) == []
    assert [problem.kind for problem in found.problems("events", complete=True)] == ["behind"] * bool(stream)


def test_problems_name_records_and_count_the_rest() -> None:
    found = compared(SHARD, arrival(60).position, paged(range(30), 10), [])
    [problem] = found.problems("events", complete=True)
    assert problem.kind == "missing"
    assert problem.detail.startswith("30 records on the stream and neither rows nor dead letters, among them events/")
    assert f"events/{SHARD}/0/0, events/{SHARD}/0/1" in problem.detail
