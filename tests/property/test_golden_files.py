"""Which files of a table may have the rows of golden records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.promotion.answers import covering
from pipeline.record import Record, Shard
from pipeline.table.names import Names

DAY_MS = 1_769_846_400_000
SHARDS = ("shardId-000000000000", "shardId-000000000001")
chains = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5)


def record(shard_id: str, sequence: int) -> Record:
    return Record(shard_id, b"", None, str(sequence), 0, DAY_MS)


@given(st.tuples(chains, chains), st.data())
def test_the_files_that_have_the_records_are_read_and_no_others(
    given: tuple[list[list[int]], list[list[int]]], data: st.DataObject
) -> None:
    """Each number is the distance to the record before it; each inner list is a file."""
    file_of: dict[tuple[str, int], str] = {}
    for shard_id, chain in zip(SHARDS, given, strict=True):
        sequence = 0
        for distances in chain:
            sequences = [sequence := sequence + distance for distance in distances]
            key = Names(Shard("events", 7, shard_id)).key(record(shard_id, sequences[0]))
            file_of |= {(shard_id, each): key for each in sequences}
    golden = data.draw(st.lists(st.sampled_from(sorted(file_of)), min_size=1, max_size=6))
    keys = data.draw(st.permutations(sorted({*file_of.values()})))
    found = covering(keys, [record(*each) for each in golden])
    assert found == {file_of[each] for each in golden}


@given(st.integers(1, 100))
def test_a_record_before_the_first_file_is_in_none(sequence: int) -> None:
    key = Names(Shard("events", 7, SHARDS[0])).key(record(SHARDS[0], 101))
    assert covering([key], [record(SHARDS[0], sequence)]) == set()
    assert covering([key], [record(SHARDS[1], 102)]) == set()
