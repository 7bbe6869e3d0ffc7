"""For any outcome of a stream's records, and any number of restarts: records that pass are in order and complete, and
of a range that ends the task no more than the limit becomes durable, all restarts together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dead_letters.gate import Gate
from pipeline.dead_letters.limit import Limits
from pipeline.record import Dead, Enriched, Record, Run, Shard
from tests.support.settled_records import rows

SHARD = Shard("events", 1, "shardId-000000000000")
BATCH = rows([1])
KINDS = {"g": None, "x": "exception", "r": "rejected"}

limits = st.builds(
    Limits, st.integers(0, 30), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.integers(1, 40), st.sampled_from(["failures"])
)
streams = st.lists(st.tuples(st.sampled_from(["g", "x", "r", "gggggggg", "xxxxxxxx", "xxg"]), st.integers(1, 6))).map(
    lambda parts: "".join(text * times for text, times in parts)
)
sizes = st.lists(st.integers(1, 7), min_size=1)


def settled(stream: str) -> list[Record]:
    made = []
    for number, letter in enumerate(stream):
        record = Record(SHARD.shard_id, b"", "key", str(number), 0, 0)
        kind = KINDS[letter]
        record.outcome = Enriched(BATCH, 0) if kind is None else Dead(b"", "why", "", 1, kind)
        made.append(record)
    return made


def life(records: list[Record], limit: Limits, cuts: list[int], idle: set[int]) -> tuple[list[Record], bool]:
    """Returns what one task passes on, and whether it ended because of a limit. ``idle``: nothing comes after these
    runs."""
    gate, passed, place, turn = Gate(SHARD, limit), [], 0, 0
    while place < len(records) and not gate.stopped:
        some = records[place : place + cuts[turn % len(cuts)]]
        place, turn = place + len(some), turn + 1
        run = gate.take(Run(SHARD, some), sum(isinstance(each.outcome, Dead) for each in some))
        passed += run.records if run else []
        if turn in idle and (run := gate.let_go()):
            passed += run.records
    if not gate.stopped and (run := gate.end()):
        passed += run.records
    return passed, gate.stopped is not None


@settings(max_examples=300, deadline=None)
@given(streams, limits, sizes, st.sets(st.integers(1, 40)))
def test_records_that_pass_are_the_beginning_of_those_that_came(
    stream: str, limit: Limits, cuts: list[int], idle: set[int]
) -> None:
    records = settled(stream)
    passed, stopped = life(records, limit, cuts, idle)
    assert passed == records[: len(passed)]
    assert stopped or len(passed) == len(records)


@settings(max_examples=300, deadline=None)
@given(streams, limits, sizes)
def test_a_run_that_reaches_the_limit_is_never_passed_in_part(stream: str, limit: Limits, cuts: list[int]) -> None:
    """Without pauses: the records that have passed end with a row, and are within the ratio."""
    records = settled(stream)
    passed, stopped = life(records, limit, cuts, set())
    if not stopped:
        return
    counted = [letter == "x" for letter in stream[: len(passed)] if letter != "r"]
    assert not (limit.max_consecutive and counted and counted[-1])
    assert sum(counted[-limit.window :]) <= limit.max_ratio * min(len(counted), limit.window)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), sizes, st.integers(2, 8))
def test_restarts_do_not_eat_a_bad_release_s_way_through_the_stream(
    well: int, limit: int, cuts: list[int], restarts: int
) -> None:
    bounds = Limits(limit, 0.5, limit, "failures")
    records = settled("g" * well + "x" * 10 * limit)
    place = 0
    for _ in range(restarts):
        passed, stopped = life(records[place:], bounds, cuts, set())
        assert stopped
        place += len(passed)
    assert place == well
