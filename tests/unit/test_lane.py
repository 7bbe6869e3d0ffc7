"""Records are released in order, durability is that of the slowest sink, and milestones count once."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.lane import Durability, Milestones, Window
from pipeline.flow.waiting import after
from pipeline.record import Dead, Position, Record, Shard

SHARD = Shard("events", 1, "shardId-000000000000")
DEAD = Dead(b"x", "because", "", 1)


def records(count: int, first: int = 100) -> list[Record]:
    return [Record(SHARD.shard_id, b"data", "key", str(first + i), 0, 1) for i in range(count)]


def test_window_releases_nothing_while_its_head_is_open() -> None:
    window = Window(SHARD)
    admitted = records(3)
    window.extend(admitted)
    admitted[1].outcome = DEAD
    assert window.release() is None
    assert len(window) == 3


@given(st.permutations(range(20)))
def test_window_releases_in_sequence_order_for_any_order_of_settling(order: list[int]) -> None:
    window = Window(SHARD)
    admitted = records(20)
    window.extend(admitted)
    released: list[Record] = []
    for index in order:
        admitted[index].outcome = DEAD
        if run := window.release():
            released += run.records
    assert released == admitted
    assert window.bytes == 0 and len(window) == 0


def test_released_records_no_longer_hold_their_payload() -> None:
    window = Window(SHARD)
    admitted = records(1)
    window.extend(admitted)
    admitted[0].outcome = DEAD
    run = window.release()
    assert run is not None and run.records[0].data == b"" and run.end == Position(100, 0)


def test_durable_is_the_least_of_the_sinks_and_waits_for_each() -> None:
    durability = Durability(["parquet", "kinesis"])
    assert not durability.reached("parquet", Position(9, 0))
    assert durability.position is None
    assert durability.reached("kinesis", Position(4, 2))
    assert durability.position == Position(4, 2)
    assert not durability.reached("parquet", Position(12, 0))
    assert durability.reached("kinesis", Position(20, 0))
    assert durability.position == Position(12, 0)


def test_durable_never_goes_back() -> None:
    durability = Durability(["parquet"])
    assert durability.reached("parquet", Position(9, 0))
    assert not durability.reached("parquet", Position(3, 0))
    assert durability.position == Position(9, 0)


@given(st.integers(90, 130), st.integers(0, 25))
def test_after_keeps_exactly_the_records_after_the_held_position(held: int, count: int) -> None:
    admitted = records(count)
    position = Position(held, 0)
    assert list(after(position, admitted)) == [record for record in admitted if record.position > position]


def test_sequence_numbers_compare_as_numbers_not_as_text() -> None:
    assert Position.parse("99/0") < Position.parse("100/0") < Position.parse("100/1")
    assert str(Position.parse("100/1")) == "100/1"


def test_milestones_count_each_range_once() -> None:
    milestones = Milestones()
    milestones.add(Position(10, 0), 5)
    milestones.add(Position(20, 0), 7)
    assert milestones.passed(Position(9, 9)) == 0
    assert milestones.passed(Position(10, 0)) == 5
    assert milestones.passed(Position(30, 0)) == 7
    assert milestones.passed(Position(30, 0)) == 0
