"""What counts, what is held back, what passes, and the message of a task that ends."""

from __future__ import annotations

import pytest

from pipeline.dead_letters.gate import Gate
from pipeline.dead_letters.limit import NO_LIMITS, Limits, Tally
from pipeline.record import Dead, Enriched, Record, Run, Shard
from tests.support.settled_records import rows

SHARD = Shard("events", 1, "shardId-000000000000")
LIMITS = Limits(20, 0.5, 40, "failures")
BATCH = rows([1])


def record(number: int, kind: str | None = "exception", *, sub: int = 0, traceback: str = "Traceback") -> Record:
    """A settled record: a row if there is no kind, else a dead letter of that kind."""
    made = Record(SHARD.shard_id, b"", "key", str(number), sub, 0)
    made.outcome = Enriched(BATCH, 0) if kind is None else Dead(b"payload", "why", traceback, 1, kind)
    return made


def take(gate: Gate, *records: Record) -> list[str]:
    """The numbers of the records that pass."""
    run = Run(SHARD, list(records))
    return numbers(gate.take(run, sum(isinstance(each.outcome, Dead) for each in records)))


def numbers(run: Run | None) -> list[str]:
    return [] if run is None else [each.sequence for each in run.records]


def test_rows_pass_as_they_come() -> None:
    gate = Gate(SHARD, LIMITS)
    assert take(gate, *(record(n, None) for n in range(5))) == ["0", "1", "2", "3", "4"]
    assert not gate and gate.bytes == 0


def test_a_dead_letter_waits_for_the_row_that_ends_its_run() -> None:
    gate = Gate(SHARD, LIMITS)
    assert take(gate, *(record(n, None) for n in range(9))) == [str(n) for n in range(9)]
    assert take(gate, record(9), record(10)) == []
    assert len(gate) == 2 and gate.bytes > 0
    assert take(gate, record(11, None)) == ["9", "10", "11"]
    assert not gate and gate.bytes == 0


def test_payloads_stay_with_their_records() -> None:
    gate = Gate(SHARD, LIMITS)
    take(gate, record(0, None))
    assert gate.take(Run(SHARD, [record(1), record(2)], [b"1", b"2"]), 2) is None
    passed = gate.take(Run(SHARD, [record(3, None), record(4)], [b"3", b"4"]), 1)
    assert passed is not None and numbers(passed) == ["1", "2", "3"] and list(passed.payloads) == [b"1", b"2", b"3"]
    rest = gate.end()
    assert rest is not None and list(rest.payloads) == [b"4"]


def test_a_run_that_reaches_the_limit_stops_the_task_and_none_of_it_passes() -> None:
    gate = Gate(SHARD, LIMITS)
    for n in range(25):
        assert take(gate, record(n)) == []
    assert gate.stopped is not None and "\n" not in gate.stopped
    assert "20 records in a row (dead_letter.max_consecutive)" in gate.stopped
    assert "events/shardId-000000000000/0/0" in gate.stopped
    assert gate.let_go() is gate.end() is gate.overflow() is None
    assert take(gate, record(25, None)) == []


def test_a_share_that_is_too_large_stops_the_task_before_it_passes() -> None:
    gate = Gate(SHARD, LIMITS)
    passed = [take(gate, record(n, None if n % 3 == 2 else "contract")) for n in range(60)]
    assert gate.stopped is not None and "dead_letter.max_ratio 0.5" in gate.stopped
    assert not any(passed)


def test_a_share_that_is_usual_passes_for_ever() -> None:
    gate = Gate(SHARD, LIMITS)
    passed = [each for n in range(1000) for each in take(gate, record(n, None if n % 3 else "contract"))]
    assert gate.stopped is None
    assert passed == [str(n) for n in range(999)]


@pytest.mark.parametrize("kind", ["rejected", "decode", "aggregate", "killed", "sink"])
def test_deliberate_rejections_never_stop_a_task(kind: str) -> None:
    gate = Gate(SHARD, LIMITS)
    passed = [take(gate, record(n, kind, traceback="")) for n in range(1000)]
    assert sum(map(len, passed)) == 1000 and gate.stopped is None
    every = Gate(SHARD, Limits(20, 0.5, 40, on="all"))
    assert not any(take(every, record(n, kind, traceback="")) for n in range(1000))
    assert every.stopped is not None


def test_deliberate_rejections_do_not_lengthen_or_end_a_run() -> None:
    gate = Gate(SHARD, LIMITS)
    for n in range(19):
        assert take(gate, record(2 * n), record(2 * n + 1, "rejected")) == []
    assert gate.stopped is None
    take(gate, record(100))
    assert gate.stopped is not None


def test_an_accident_in_the_models_own_decode_counts() -> None:
    gate = Gate(SHARD, LIMITS)
    for n in range(20):
        take(gate, record(n, "decode"))
    assert gate.stopped is not None


def test_no_single_record_stops_a_task_however_many_user_records_it_has() -> None:
    gate = Gate(SHARD, Limits(1_000, 0.5, 1_000, "failures"))
    for start in range(0, 97_000, 1_000):
        take(gate, *(record(1, sub=sub) for sub in range(start, start + 1_000)))
    assert gate.stopped is None
    assert len(numbers(gate.let_go())) == 97_000
    for number in range(2, 21):
        assert gate.stopped is None
        take(gate, *(record(number, sub=sub) for sub in range(100)))
    assert gate.stopped is not None


def test_little_is_let_go_when_nothing_comes_and_a_long_run_is_not() -> None:
    gate = Gate(SHARD, LIMITS)
    take(gate, *(record(n) for n in range(5)))
    assert numbers(gate.let_go()) == ["0", "1", "2", "3", "4"]
    take(gate, record(5))
    assert gate.let_go() is None, "the run goes on"
    for n in range(6, 20):
        take(gate, record(n))
    assert gate.stopped is not None and "all but the first 5 of them" in gate.stopped


def test_held_records_that_do_not_fit_are_released_if_few_and_stop_the_task_otherwise() -> None:
    gate = Gate(SHARD, LIMITS)
    take(gate, *(record(n) for n in range(5)))
    assert len(numbers(gate.overflow())) == 5
    take(gate, record(6))
    assert gate.overflow() is None
    assert gate.stopped is not None and "in_flight.total_mib" in gate.stopped


def test_the_end_of_a_shard_lets_everything_pass() -> None:
    gate = Gate(SHARD, LIMITS)
    take(gate, *(record(n) for n in range(19)))
    assert len(numbers(gate.end())) == 19
    assert gate.end() is None


def test_no_limits_hold_nothing_back() -> None:
    assert not NO_LIMITS
    gate = Gate(SHARD, NO_LIMITS)
    for n in range(3000):
        assert take(gate, record(n)) == [str(n)]
    ratio = Gate(SHARD, Limits(0, 0.5, 40, "failures"))
    take(ratio, *(record(n, None) for n in range(40)))
    assert take(ratio, record(41)) == ["41"]


def test_shards_that_fail_together_stop_the_task_together() -> None:
    tally = Tally(LIMITS)
    gates = [Gate(SHARD, LIMITS) for _ in range(4)]
    for n in range(20):
        made = record(n)
        take(gates[n % 4], made)
        tally.all_of([made])
        gates[n % 4].stop(tally)
    assert [gate.stopped is not None for gate in gates] == [False, False, False, True]
    assert gates[3].stopped is not None and "of all shards together" in gates[3].stopped


def test_the_commonest_reason_is_named_with_a_record() -> None:
    gate = Gate(SHARD, LIMITS)
    for n in range(20):
        made = record(n)
        assert isinstance(made.outcome, Dead)
        place = "KeyError at model.py:12 in predict" if n else "ValueError at other.py:1 in f"
        made.outcome = Dead(b"", "secret", "secret", 1, "exception", where=place)
        take(gate, made)
        if n == 15:
            assert "16 dead letters" in (gate.said() or "")
    assert gate.stopped is not None
    assert "exception (KeyError at model.py:12 in predict), such as events/shardId-000000000000/1/0" in gate.stopped
    assert "secret" not in gate.stopped
