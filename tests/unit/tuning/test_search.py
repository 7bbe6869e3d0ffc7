"""What is measured, in which order, when it is enough, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from consumer.tuning.search import (
    DROP_BELOW,
    FEW_RUNS,
    ROUNDS,
    Cell,
    Combo,
    Measured,
    Search,
    TimedCall,
    TuningRun,
    best,
    combos,
    run_of,
    sizes,
)

ONE, TWO = Combo(1, 2), Combo(2, 1)


def search(
    *, wanted: tuple[Combo, ...] = (ONE, TWO), most: int = 4, target_s: float = 0.0, together: bool = True
) -> Search:
    return Search(wanted, sizes(most), budget_s=100.0, target_s=target_s, together=together)


def played(search: Search, model: Callable[[Cell], TuningRun]) -> list[Cell]:
    """Every cell that was measured, in order; a run takes a hundredth of a second."""
    cells: list[Cell] = []
    while cell := search.next(len(cells) / 100):
        cells.append(cell)
        search.told(cell, model(cell))
    return cells


def level(cell: Cell) -> TuningRun:
    return TuningRun(100.0, 0.01)


# -- what is worth a try


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1)]),
        (3, [(1, 1), (1, 3), (2, 1), (3, 1)]),
        (8, [(1, 4), (1, 8), (2, 2), (2, 4), (4, 1), (4, 2), (8, 1)]),
    ],
)
def test_combinations_fit_the_cores(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(combo.replicas, combo.threads) for combo in combos(cores)] == expected


def test_configured_values_are_kept_even_beyond_the_cores() -> None:
    assert combos(4, replicas=2) == [Combo(2, 1), Combo(2, 2)]
    assert combos(4, threads=2) == [Combo(1, 2), Combo(2, 2)]
    assert combos(2, replicas=3, threads=4) == [Combo(3, 4)]


def test_a_gpu_has_one_replica_or_two() -> None:
    assert combos(16, gpus=1) == [Combo(1, 8), Combo(1, 16), Combo(2, 4), Combo(2, 8)]
    assert combos(4, gpus=4) == [Combo(4, 1)]


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (4, [1, 2, 4]), (100, [1, 2, 4, 8, 16, 32, 64, 100])])
def test_sizes_double_up_to_the_largest(most: int, expected: list[int]) -> None:
    assert sizes(most) == expected


# -- rounds


@pytest.mark.parametrize("together", [True, False])
def test_no_cell_is_measured_again_before_every_other_was(together: bool) -> None:
    order = played(search(together=together), level)
    cells = set(order)
    assert len(cells) == 6 and len(order) == ROUNDS * 6
    for begin in range(0, len(order), 6):
        assert set(order[begin : begin + 6]) == cells


def test_loaded_together_combinations_take_turns_at_every_size() -> None:
    assert played(search(), level)[:4] == [Cell(ONE, 1), Cell(TWO, 1), Cell(ONE, 2), Cell(TWO, 2)]


def test_combinations_loaded_in_turn_are_loaded_once_a_round() -> None:
    order = [cell.combo for cell in played(search(together=False), level)]
    changes = sum(before != after for before, after in pairwise(order))
    assert changes == ROUNDS


def test_time_that_is_up_ends_it() -> None:
    begun = search()
    assert begun.next(99.9) is not None
    assert begun.next(100.0) is None


# -- early ends


def test_a_hopeless_cell_gets_one_run_only() -> None:
    order = played(search(), lambda cell: TuningRun(100.0 if cell.combo == ONE else 99.0 * DROP_BELOW[0], 0.01))
    assert order.count(Cell(TWO, 1)) == 1
    assert order.count(Cell(ONE, 1)) == ROUNDS


def test_a_cell_that_was_unlucky_once_is_measured_again() -> None:
    runs = iter([30.0, *[100.0] * 100])
    alone = search(wanted=(ONE,), most=2)
    order = played(alone, lambda cell: TuningRun(next(runs) if cell.size == 2 else 45.0, 0.01))
    assert order.count(Cell(ONE, 2)) == FEW_RUNS
    assert order.count(Cell(ONE, 1)) == 2
    assert best(alone.measured).cell == Cell(ONE, 2)


def test_larger_batches_are_not_tried_once_two_in_a_row_were_slower() -> None:
    tried = played(search(wanted=(ONE,), most=64), lambda cell: TuningRun(100.0 / cell.size, 0.01))
    assert max(cell.size for cell in tried) == 4


def test_a_call_that_would_take_a_large_part_of_the_time_is_not_begun() -> None:
    tuning = search(wanted=(ONE,), most=64)
    tried = played(tuning, lambda cell: TuningRun(1.0, 1.0 * cell.size))
    assert max(cell.size for cell in tried) == 4
    assert tuning.dropped[Cell(ONE, 64)] == "a call would take too long for --seconds"


def test_beyond_the_target_no_larger_batch_is_tried() -> None:
    tried = played(
        search(wanted=(ONE,), most=64, target_s=0.03), lambda cell: TuningRun(cell.size * 10, 0.01 * cell.size)
    )
    assert max(cell.size for cell in tried) == 4
    assert tried.count(Cell(ONE, 4)) == 1


def test_a_combination_that_fails_is_not_tried_again_or_chosen() -> None:
    tuning = search()
    cells: list[Cell] = []
    while cell := tuning.next(0.0):
        cells.append(cell)
        if cell.combo == TWO and tuning.round == 2:
            tuning.failed(TWO, "the replica was killed")
        else:
            tuning.told(cell, TuningRun(500.0 if cell.combo == TWO else 400.0, 0.01))
    assert best(tuning.measured).cell.combo == ONE
    assert sum(cell.combo == TWO for cell in cells) == 4
    assert set(tuning.dropped.values()) == {"the replica was killed"}


# -- the choice


def measured(cell: Cell, rate: float, call_s: float = 0.01) -> Measured:
    return Measured(cell, [TuningRun(rate, call_s)])


def test_the_median_counts_and_not_a_lucky_run() -> None:
    lucky = Measured(Cell(ONE, 1), [TuningRun(900.0, 0.01), TuningRun(10.0, 0.01), TuningRun(10.0, 0.01)])
    assert best([lucky, measured(Cell(TWO, 1), 50.0)]).cell.combo == TWO


def test_of_equals_the_one_that_takes_less_is_chosen() -> None:
    assert best([measured(Cell(TWO, 1), 50.0), measured(Cell(ONE, 4), 50.0), measured(Cell(ONE, 2), 50.0)]).cell == (
        Cell(ONE, 2)
    )


def test_where_nothing_keeps_to_the_target_the_shortest_calls_are_chosen() -> None:
    slow = [measured(Cell(ONE, 8), 90.0, 0.9), measured(Cell(ONE, 1), 10.0, 0.2)]
    assert best(slow, target_s=0.1).cell == Cell(ONE, 1)


# -- a run


def test_replicas_are_measured_from_their_first_answer_to_their_last() -> None:
    answers = [TimedCall(1.0 + step, 0, 10, 0.9) for step in range(4)] + [
        TimedCall(1.5 + step, 1, 10, 0.9) for step in (0, 1)
    ]
    assert run_of(answers, began_s=0.0) == TuningRun(20.0, 0.9)


def test_a_single_answer_counts_from_the_beginning() -> None:
    assert run_of([TimedCall(4.0, 0, 10, 3.0)], began_s=2.0) == TuningRun(5.0, 3.0)


def test_the_call_time_is_the_90th_percentile() -> None:
    calls = [TimedCall(float(n), 0, 1, 0.1) for n in range(9)] + [TimedCall(9.0, 0, 1, 0.5)]
    assert run_of(calls, began_s=0.0).call_s == 0.5
    assert run_of([*calls, *[TimedCall(10.0 + n, 0, 1, 0.1) for n in range(10)]], began_s=0.0).call_s == 0.1
