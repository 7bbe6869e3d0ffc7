"""What a plan says of its records, its time and the cost of a day."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.admin.estimate import FRESH_S, Pace, of_one_task, of_the_application, pace_of, reading_again
from consumer.cli import output


def stats(rate: float, busy: float | None) -> dict[str, Any]:
    return {"busy": busy, "by_shard": {"s0": {"rate": rate / 2}, "s1": {"rate": rate / 2}, "s2": {}}}


def test_a_pace_is_what_busy_workers_do() -> None:
    fresh = [(0.0, stats(50, 0.5)), (0.0, stats(120, 1.0)), (0.0, stats(90, 0.3))]
    assert pace_of(fresh, 10) == Pace(3, 120)
    assert pace_of(fresh, 10).all == 360
    assert pace_of([(0.0, stats(5, 0.05)), (0.0, stats(5, None)), (0.0, {}), (0.0, stats(0, 1.0))], 10) == Pace()
    assert pace_of(fresh, FRESH_S + 1) == Pace(), "of workers that are gone"


@pytest.mark.parametrize(
    ("rate", "pace", "seconds", "said"),
    [
        (10.0, Pace(), 100, "at this --rate, 10.0 records/s"),
        (None, Pace(2, 50), 20, "by the pace of the application's tasks, 50.0 records/s"),
        (100.0, Pace(2, 50), 20, "by the pace of the application's tasks, 50.0 records/s"),
        (10.0, Pace(2, 50), 100, "at this --rate, 10.0 records/s"),
        (None, Pace(), None, "no busy worker says how fast it is"),
    ],
)
def test_the_slower_of_rate_and_pace_is_the_time(rate: float | None, pace: Pace, seconds: float, said: str) -> None:
    found = of_one_task(1_000, None, rate, pace, "unchanged")
    assert (found.takes_s, found.time_from) == (seconds, said)


def test_of_no_records_the_time_is_none() -> None:
    assert of_the_application(0, 0, Pace(), "unchanged").takes_s == 0


def test_of_an_unknown_number_of_records_the_time_is_unknown() -> None:
    found = of_the_application(None, None, Pace(2, 50), "unchanged").to_dict()
    assert output.estimate(found) == [
        "records: unknown",
        "time: unknown (the number of records is unknown)",
        "a day: unchanged",
    ]


@given(st.integers(1, 10**9), st.integers(1, 100), st.floats(0.1, 10**5))
def test_more_tasks_are_never_slower(records: int, tasks: int, each: float) -> None:
    pace = Pace(tasks, each)
    one, every = of_one_task(records, 0, None, pace, ""), of_the_application(records, 0, pace, "")
    assert one.takes_s and every.takes_s and every.takes_s <= one.takes_s * (1 + 1e-9)


def test_what_reading_again_costs() -> None:
    assert "does not charge" in reading_again("PROVISIONED", 3_600)
    assert "older than 7 days" in reading_again("PROVISIONED", 8 * 86_400)
    assert "on demand" in reading_again("ON_DEMAND", 3_600)
