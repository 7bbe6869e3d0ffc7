"""A table compared with its stream: every problem is found, and nothing else is reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.record import Position
from pipeline.table.compare import KEPT, Arrival, ShardComparison, compared

SHARD = "shardId-000000000000"


def arrival(number: int) -> Arrival:
    return Arrival(Position(number // 3, number % 3), f"key-{number}", 1000 + number)


def paged(numbers: Sequence[int], size: int) -> list[list[Arrival]]:
    return [[arrival(number) for number in numbers[i : i + size]] for i in range(0, len(numbers), size)]


def held_against(
    stream: Sequence[int], table: Iterable[Arrival], reached: int | None, oldest: int | None = 0
) -> ShardComparison:
    """``oldest``: where the stream begins at the time of the request; None: the shard has expired."""
    end = None if reached is None else arrival(reached).position
    begins = None if oldest is None else arrival(oldest).position
    return compared(SHARD, end, paged(stream, 7), table, lambda: begins)


numbers = st.lists(st.integers(0, 200), unique=True, max_size=60).map(sorted)


@given(numbers, st.integers(0, 200), st.integers(0, 60), st.data())
def test_exactly_the_lost_doubled_alien_and_changed_records_are_found(
    stream: list[int], reached: int, trimmed: int, data: st.DataObject
) -> None:
    due = [number for number in stream if number <= reached]
    some = st.sets(st.sampled_from(due)) if due else st.just(set[int]())
    lost, doubled = data.draw(some), data.draw(some)
    doubled -= lost
    changed = data.draw(some) - lost - doubled
    alien = set(data.draw(numbers)) - set(stream)
    left = stream[trimmed:]  # the oldest records have left the stream
    table = [
        arrival(number)._replace(partition_key="another") if number in changed else arrival(number)
        for number in sorted([*({*due, *alien} - lost), *doubled])
    ]
    found = held_against(left, table, reached)
    oldest = left[0] if left else 10**9
    expected = {
        "missing": [n for n in left if n in lost],
        "doubled": sorted(doubled),
        "differs": [n for n in left if n in changed],
        "alien": [n for n in sorted(alien) if n > oldest],
    }
    for name, those in expected.items():
        tally = getattr(found, name)
        assert (tally.count, tally.first) == (len(those), [arrival(n).position for n in those])
    assert found.compared == len([n for n in left if n <= reached])
    assert found.behind == len([n for n in left if n > reached])
    assert found.retired == len({row.position for row in table if row.position < arrival(oldest).position})
    kinds = {problem.kind for problem in found.problems("events", complete=True)}
    assert kinds == {name for name, those in expected.items() if those} | ({"behind"} if found.behind else set())


@given(numbers)
def test_a_shard_that_was_never_read_is_behind_and_nothing_else_is_known(stream: list[int]) -> None:
    found = held_against(stream, [], None)
    assert (found.compared, found.behind, found.missing.count) == (0, len(stream), 0)
    assert list(found.problems("events", complete=False)) == []
    assert [problem.kind for problem in found.problems("events", complete=True)] == ["behind"] * bool(stream)


@given(numbers, st.integers(0, 200), st.data())
def test_rows_whose_records_expire_during_the_reading_are_not_aliens(
    table: list[int], horizon: int, data: st.DataObject
) -> None:
    """The first page was read before the oldest record expired, the others after it."""
    stream = table[:7] + [n for n in table[7:] if n >= horizon]
    gone = [n for n in table if n not in stream]
    found = held_against(stream, map(arrival, table), 200, horizon)
    assert (found.alien.count, found.retired) == (0, len(gone))
    made_up = data.draw(st.sampled_from(gone)) if gone else None
    if made_up is not None:
        again = held_against(stream, map(arrival, table), 200, made_up)
        assert again.alien.count == len([n for n in gone if n >= made_up])


def test_a_stream_that_has_become_empty_shows_no_alien_rows() -> None:
    found = held_against([0], map(arrival, range(9)), 8, None)
    assert (found.compared, found.retired, found.alien.count) == (1, 8, 0)


def test_where_the_stream_begins_is_asked_once_a_page_at_most() -> None:
    asked = []
    pages = paged([0, *range(100, 200)], 50)
    compared(SHARD, arrival(200).position, pages, map(arrival, range(200)), lambda: asked.append(1))
    assert len(asked) == 1


def test_problems_name_records_and_count_the_rest() -> None:
    found = held_against(range(3 * KEPT), [], 10**6)
    [problem] = found.problems("events", complete=True)
    assert problem.kind == "missing"
    assert problem.detail.startswith("300 records on the stream but neither rows nor dead letters, among them events/")
    assert f"events/{SHARD}/0/0, events/{SHARD}/0/1" in problem.detail
    assert len(found.missing.first) == KEPT
