"""The output of `make bench`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.figures import Figure
from benchmarks.live import rate, told
from benchmarks.report import as_json, multiple, plot, table
from benchmarks.stock import Way
from benchmarks.stock.processor import formed

FAST = Figure("fast", [1.4, 2.0, 1.6], "x", bar=1.5, text="ours beside theirs")
SMALL = Figure("small", [0.8, 0.9, 0.7], "GB", bar=0.7, at_most=True)
SHOWN = Figure("shown", [3.0])


def test_a_figure_is_the_median_of_its_runs_with_their_spread() -> None:
    assert (FAST.value, SMALL.value, SHOWN.value) == (1.6, 0.8, 3.0)
    assert round(FAST.spread, 3) == 0.375
    assert SHOWN.spread == 0


def test_a_bar_is_reached_from_the_right_side() -> None:
    assert (FAST.reached, SMALL.reached, SHOWN.reached) == (True, False, None)
    assert (round(multiple(FAST, 3.0), 3), round(multiple(SMALL, 1.4), 3)) == (2.0, 0.5)


def test_the_table_names_what_was_missed() -> None:
    text = io.StringIO()
    table(Console(file=text, width=160), [FAST, SMALL, SHOWN])
    lines = {line.split()[1]: line for line in text.getvalue().splitlines() if line.startswith("│")}
    assert ">= 1.5 reached" in lines["fast"] and "1.4 - 2" in lines["fast"] and "ours beside theirs" in lines["fast"]
    assert "<= 0.7 MISSED" in lines["small"]
    assert ">=" not in lines["shown"]


def test_nothing_of_the_table_is_cut_where_it_is_piped() -> None:
    text, long = io.StringIO(), Figure("replica_" * 8, [1.0], text="what it is " * 20)
    table(Console(file=text), [long])
    assert "…" not in text.getvalue()
    assert long.key in text.getvalue() and long.text.strip() in text.getvalue()


def test_every_run_is_in_the_json() -> None:
    assert as_json(SMALL)["values"] == [0.8, 0.9, 0.7]
    assert as_json(SMALL)["reached"] is False


def test_the_picture_is_one(tmp_path: Path) -> None:
    plot([FAST, SMALL, SHOWN], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_cuts_no_batch_in_two() -> None:
    """Eight records every two seconds, observed for nine seconds."""
    now = [100.7]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    measured = rate(lambda: int(now[0] // 2) * 8, 9.0, clock=lambda: now[0], sleep=sleep)
    assert abs(measured - 4.0) < 0.1


def test_a_program_that_has_stopped_is_not_waited_for_for_ever() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(RuntimeError, match="nothing is predicted"):
        rate(lambda: 7, 1.0, clock=lambda: now[0], sleep=sleep)


def test_during_a_turn_no_worker_asks_again() -> None:
    now, asked = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def count() -> int:
        asked.append(now[0])
        return int(now[0] // 2) * 8

    rate(count, 30.0, clock=lambda: now[0], sleep=sleep)
    assert not [at for at in asked if 3.0 < at < 30.0]


def test_the_use_of_the_cores_is_shown_by_shares() -> None:
    assert told([{"replica": 1.9, "jvm": 0.02}, {"replica": 1.8, "jvm": 0.04, "bridge": 0.0001}]) == (
        "replica 185.0%, jvm 3.0%"
    )


def test_stock_predicts_every_record_of_a_message_once() -> None:
    payloads = [b"x" * length for length in (5, 1, 9, 3, 7)]
    for way in (Way("any", 2), Way("any", 2, sorts=True), Way("any", 0), Way("any", 64)):
        made = formed(payloads, way)
        assert sorted(place for places in made for place in places) == [0, 1, 2, 3, 4]
        assert max(map(len, made)) <= (way.calls or 5)
    assert len(formed(payloads, Way("any", 0))) == 1
    alike = {
        tuple(sorted(len(payloads[place]) for place in places)) for places in formed(payloads, Way("any", 2, True))
    }
    assert alike == {(1, 3), (5, 7), (9,)}
