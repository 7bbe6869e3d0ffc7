"""Two commits are compared by pairs of runs that took turns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.beside import THIS, compared, line, turns

OTHER = Path("/another/checkout")


def test_who_begins_alternates_and_the_first_pair_does_not_count() -> None:
    ran: list[Path] = []

    def once(checkout: Path) -> Mapping[str, float]:
        ran.append(checkout)
        return {"s": float(len(ran))}

    assert list(turns(once, OTHER, 2)) == [({"s": 4.0}, {"s": 3.0}), ({"s": 5.0}, {"s": 6.0})]
    assert ran == [THIS, OTHER, OTHER, THIS, THIS, OTHER]


def test_a_ratio_is_the_median_of_the_pairs_and_not_of_the_sides() -> None:
    """The machine is busy during the second pair, for both."""
    pairs = [
        ({"help_s": ours}, {"help_s": theirs, "new_s": 1.0}) for ours, theirs in ((1.0, 2.0), (9.0, 10.0), (1.1, 2.0))
    ]
    [found] = compared(pairs)
    assert found["ratio"] == pytest.approx(0.55)
    assert line(found) == "help_s\t1.1\t2\t0.550\t0.50 to 0.90"


def test_a_figure_that_the_other_commit_has_as_0_has_no_ratio() -> None:
    assert list(compared([({"share": 0.1}, {"share": 0.0})])) == []
