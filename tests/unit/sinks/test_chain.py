"""When a file is cut, its name, and what happens to a buffer when another writer was first."""

from __future__ import annotations

import pytest

from pipeline.record import Dead, Position, settled_weight
from pipeline.sinks.chain import LETTERS_BYTES, POSITIONS_BYTES, Chain, letters_size_of
from pipeline.table import dead_positions
from pipeline.table.footer import end_of
from pipeline.table.names import Names, day_of, first_of, letters_key, of_day
from tests.support.settled_records import DAY_MS, MORNING_MS, SHARD, record, runs

NAMES = Names(SHARD)
DAY = "dt=2026-11-18/1700000000-shardId-000000000000-"


def chain(*, flush_bytes: int = 1 << 30, end: Position | None = None) -> Chain:
    return Chain(NAMES, flush_interval_s=60, flush_bytes=flush_bytes, end=end)


def numbers(made: Chain, now: float) -> list[int]:
    file = made.next(now)
    return [] if file is None else [record.position.sequence for record in file.records]


def test_a_file_is_named_after_its_day_and_its_first_record() -> None:
    key = NAMES.key(record(77, sub=8))
    assert key == f"{DAY}{'77'.zfill(56)}-0000000008.parquet"
    assert (first_of(key), day_of(key)) == (Position(77, 8), DAY)
    assert letters_key(key) == f"{DAY}{'77'.zfill(56)}-0000000008.jsonl"
    assert NAMES.day_after(key) == NAMES.day(MORNING_MS + DAY_MS) == DAY.replace("18", "19", 1)


def test_a_file_waits_for_its_age() -> None:
    made = chain()
    assert made.due_at() is None and made.next(1e9) is None
    made.add([record(1)], 100)
    made.add([record(2)], 150)
    assert made.due_at() == 160
    assert numbers(made, 159.9) == []
    assert numbers(made, 160) == [1, 2]


def test_a_file_under_way_grows_no_more_and_is_the_same_when_asked_again() -> None:
    made = chain()
    made.add([record(1)], 0)
    first = made.next(60)
    made.add([record(2)], 60)
    assert made.next(60) == first
    made.written(Position(1, 0))
    assert made.due_at() == 120
    assert numbers(made, 120) == [2]


def test_a_file_is_cut_at_its_size() -> None:
    size = settled_weight([record(1)])
    made = chain(flush_bytes=2 * size)
    made.add(runs(1, 6).records, 0)
    assert made.bytes == 5 * size
    assert numbers(made, 0) == [1, 2]
    made.written(Position(2, 0))
    assert numbers(made, 0) == [3, 4]
    made.written(Position(4, 0))
    assert numbers(made, 0) == []
    assert made.bytes == size and len(made) == 1


def test_a_file_is_cut_where_the_day_changes_forth_and_back() -> None:
    made = chain()
    for sequence, day in ((1, 0), (2, 1), (3, 0)):
        made.add([record(sequence, ms=MORNING_MS + day * DAY_MS + 5)], 0)
    for sequence in (1, 2):
        assert numbers(made, 0) == [sequence]
        made.written(Position(sequence, 0))
    assert numbers(made, 0) == []


def test_a_file_is_cut_when_its_dead_letters_are_many() -> None:
    made = chain()
    big = record(1, dead=True)
    big.outcome = Dead(bytes(LETTERS_BYTES), "", "", 1)
    made.add([big, record(2)], 0)
    assert numbers(made, 0) == [1]


def test_a_file_may_end_within_an_aggregate_and_the_next_begins_there() -> None:
    size = settled_weight([record(1)])
    made = chain(flush_bytes=2 * size)
    made.add([record(1, sub=sub, whole=sub == 2) for sub in range(3)], 0)
    file = made.next(0)
    assert file is not None and file.end == Position(1, 1)
    made.written(file.end)
    assert made.seal() == Position(1, 2)
    rest = made.next(0)
    assert rest is not None and rest.key == NAMES.key(record(1, sub=2)) and rest.previous_end == Position(1, 1)


def test_sealing_makes_everything_taken_due_and_says_up_to_where() -> None:
    made = chain()
    made.add([record(1), record(2), record(3, sub=0, whole=False)], 0)
    assert made.seal() == Position(3, 0)
    assert numbers(made, 0) == [1, 2, 3]
    made.written(Position(3, 0))
    assert made.seal() == Position(3, 0)


def test_the_positions_of_many_dead_letters_stay_few_bytes() -> None:
    made = chain()
    many = [record(10**55 + n * 10**20, dead=True) for n in range(1500)]
    made.add([*many, *[record(10**56 - 1, sub=sub, dead=sub % 2 == 0) for sub in range(10_000)]], 0)
    made.seal()
    seen = 0
    while file := made.next(0):
        assert len(dead_positions.encoded(file.dead)) <= POSITIONS_BYTES
        assert letters_size_of(file.records) <= LETTERS_BYTES
        seen += len(file.records)
        made.written(file.end)
    assert seen == 11_500


def test_a_key_counts_with_its_size() -> None:
    heavy, light = record(1), record(1)
    heavy.partition_key, light.partition_key = "k" * 20_000, ""
    assert settled_weight([heavy]) - settled_weight([light]) == 20_000


def test_only_names_of_the_shards_files_are_read() -> None:
    good = NAMES.key(record(5))
    strays = [
        "dt=2026-11-18/_SUCCESS",
        f"{DAY}x.parquet",
        f"{DAY}5.parquet",
        f"{good}.crc",
        good.replace("000-", "00-1-", 1),
    ]
    assert of_day([*strays, good, NAMES.key(record(4))], DAY) == [NAMES.key(record(4)), good]


def test_records_that_the_list_has_are_skipped() -> None:
    made = chain(end=Position(5, 1))
    made.add([record(4), record(5, sub=0, whole=False), record(5, sub=1), record(6)], 0)
    assert numbers(made, 60) == [6]


def test_a_file_has_its_neighbours_its_writer_and_its_counts() -> None:
    made = chain(end=Position(9, 3))
    made.add([record(10), record(11, dead=True), record(12)], 0)
    file = made.next(60)
    assert file is not None
    metadata = file.metadata("me")
    assert metadata == {
        "penstock-end": "12/0",
        "penstock-whole": "yes",
        "penstock-previous-end": "9/3",
        "penstock-writer": "me",
        "penstock-rows": "2",
        "penstock-dead": "1",
        "penstock-dead-sha256": "",
    }
    assert end_of(metadata) == Position(12, 0)
    assert file.before(Position(12, 0)).end == Position(11, 0) and len(file.before(Position(12, 0)).records) == 2


@pytest.mark.parametrize(("end", "left"), [(2, [3]), (3, []), (9, [])])
def test_after_adopting_the_rest_is_due_at_once_at_its_new_place(end: int, left: list[int]) -> None:
    made = chain()
    made.add(runs(1, 4).records, 0)
    assert numbers(made, 60) == [1, 2, 3]
    made.written(Position(end, 0))
    assert numbers(made, 60) == left
    file = made.next(60)
    assert file is None or (file.previous_end == Position(end, 0) and file.key == NAMES.key(record(3)))
    made.add([record(9), record(10)], 61)
    assert made.end == Position(end, 0)
    assert len(made) == len(left) + (2 if end < 9 else 1)


def test_adopting_reaches_into_later_pieces() -> None:
    made = chain(flush_bytes=1)
    made.add(runs(1, 5).records, 0)
    made.written(Position(3, 0))
    assert numbers(made, 0) == [4]


def test_nothing_is_left_of_a_lost_lease() -> None:
    made = chain()
    made.add([record(1), record(2, whole=False)], 0)
    made.clear()
    assert (len(made), made.bytes, made.due_at()) == (0, 0, None)
