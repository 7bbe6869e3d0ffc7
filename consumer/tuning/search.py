"""Decides which replicas, threads and batches to measure, in which order, and which are best. Pure: no clock, no model.

Measurements are made in rounds, each cell once per round, so that other load on the machine affects all cells equally.
Medians are compared. Cells that are clearly worse are left out of later rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

ROUNDS = 7
"""Maximum number of rounds: enough for a median that one pause of the machine does not change."""

RUNS_S = (0.1, 2.0)
"""Minimum and maximum duration of a run in seconds, without the wait for calls that have begun."""

EXPECTED_ROUNDS = 4
"""The budget is divided among this many rounds. Later rounds are shorter, because cells have been left out."""

LONGEST_SHARE = 0.05
"""Maximum duration of one predict call, as a share of the budget. Slower calls cannot be measured within it."""

FALLING = 0.8
"""If two batch sizes in a row are below this share of the combination's best rate, larger ones are not tried."""

DROP_BELOW = (0.5, 0.75, 0.9)
"""A cell below this share of the best rate is left out: after one run, after two, and after three or more. The shares
are lower at first, because a pause of the machine may have disturbed a single run."""

FEW_RUNS = len(DROP_BELOW)
OVER_TARGET = 1.25
"""A cell is left out, and larger batches too, if its calls take longer than this many times the target."""


@dataclass(frozen=True, slots=True, order=True)
class Combo:
    """A number of replicas, and of threads for each of them."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One combination with one batch size: the unit of measurement. ``size``: number of usual records in a batch."""

    combo: Combo
    size: int


@dataclass(frozen=True, slots=True)
class TuningRun:
    """The result of a run. ``records_per_s``: of all replicas together. ``call_s``: 90th percentile of
    predict calls."""

    records_per_s: float
    call_s: float


@dataclass(slots=True)
class Measured:
    """A cell and its runs. ``dropped``: why it was left out of later rounds; empty if it was not."""

    cell: Cell
    runs: list[TuningRun] = field(default_factory=list)
    dropped: str = ""

    @property
    def records_per_s(self) -> float:
        """Median rate of the runs, in records per second."""
        return median(run.records_per_s for run in self.runs)

    @property
    def call_s(self) -> float:
        """Median duration of a predict call, in seconds."""
        return median(run.call_s for run in self.runs)

    @property
    def spread(self) -> float:
        """Difference between the highest and the lowest rate, as a share of the median."""
        rates = [run.records_per_s for run in self.runs]
        return (max(rates) - min(rates)) / self.records_per_s if self.records_per_s else 0.0


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A predict call that returned at ``at_s``. ``records``: in usual records. ``call_s``: duration inside
    the replica."""

    at_s: float
    replica: int
    records: float
    call_s: float


def run_of(answers: Sequence[TimedCall], began_s: float) -> TuningRun:
    """Return the result of a run with at least one answer.

    Each replica is measured from its first answer to its last, without the work before and after. So a run with many
    replicas does not look slower because of its end. A replica with a single answer is measured from ``began_s``.
    """
    rate = 0.0
    for _, group in groupby(sorted(answers, key=lambda each: (each.replica, each.at_s)), key=lambda each: each.replica):
        first, *later = group
        counted, since_s = (later, first.at_s) if later else ([first], began_s)
        rate += sum(each.records for each in counted) / max(1e-9, counted[-1].at_s - since_s)
    calls = sorted(each.call_s for each in answers)
    return TuningRun(rate, calls[min(len(calls) - 1, len(calls) * 9 // 10)])


def combos(cores: int, replicas: int | None = None, threads: int | None = None, gpus: int = 0) -> list[Combo]:
    """Return the combinations that are worth a try on this many cores. ``replicas`` and ``threads`` that are given are
    kept.

    The number of replicas doubles from one to the number of cores. Each replica has its share of the cores as threads,
    or half of that, because two hardware threads may share one arithmetic unit. Combinations with more threads than
    cores are not tried, unless they are given. On GPUs there are one or two replicas per GPU: with two, one prepares
    its input while the other computes.
    """
    counts = [replicas] if replicas else [gpus, 2 * gpus] if gpus else _doubling(cores)
    found: set[Combo] = set()
    for count in counts:
        share = max(1, cores // count)
        wanted = [threads] if threads else [share, max(1, share // 2)]
        found |= {Combo(count, each) for each in wanted}
    fitting = {combo for combo in found if combo.replicas * combo.threads <= cores}
    return sorted(fitting or found)


def sizes(most: int) -> list[int]:
    """Return the batch sizes to try: 1, 2, 4 … and ``most``."""
    return _doubling(max(1, most))


def _doubling(most: int) -> list[int]:
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def best(measured: Iterable[Measured], target_s: float = 0.0) -> Measured:
    """Return the fastest cell whose calls meet ``target_s`` (0: no target); if none does, the one with the shortest
    calls.

    Of two equally fast cells, the one with fewer replicas, threads and records. :raises ValueError: nothing was
    measured.
    """
    known = [each for each in measured if each.runs]
    keeping = [each for each in known if not target_s or each.call_s <= target_s]
    if not keeping:
        return min(known, key=lambda each: (each.call_s, each.cell))
    return min(keeping, key=lambda each: (-each.records_per_s, each.cell))


class Search:
    """Chooses what to measure (:meth:`next`) and learns from the results (:meth:`told`).

    ``together``: all combinations are loaded at the same time, so that a change of the combination costs nothing. A
    round then goes from size to size. Otherwise it goes from combination to combination, in turns up and down.
    """

    def __init__(
        self, combos: Sequence[Combo], sizes: Sequence[int], *, budget_s: float, target_s: float, together: bool
    ) -> None:
        self._measured = {Cell(combo, size): Measured(Cell(combo, size)) for combo in combos for size in sizes}
        self._target_s = target_s
        self._budget_s = budget_s
        self._together = together
        self._round = 0
        self._left: list[Cell] = []
        self.run_s = min(RUNS_S[1], max(RUNS_S[0], budget_s / len(self._measured) / EXPECTED_ROUNDS))
        """Duration of a run in seconds."""

    @property
    def measured(self) -> list[Measured]:
        """The cells that have runs, sorted."""
        return [each for _, each in sorted(self._measured.items()) if each.runs]

    @property
    def dropped(self) -> dict[Cell, str]:
        """The cells that were left out, and why."""
        return {cell: each.dropped for cell, each in sorted(self._measured.items()) if each.dropped}

    @property
    def round(self) -> int:
        """Number of the round; the first is 1."""
        return self._round

    def next(self, spent_s: float) -> Cell | None:
        """Return the cell to measure next, ``spent_s`` after the start; None if nothing is left to measure
        or time is up."""
        while spent_s < self._budget_s:
            if not self._left and not self._begin_round():
                return None
            cell = self._left.pop(0)
            each = self._measured[cell]
            if not each.dropped and self._round == 1:
                each.dropped = self._foreseen(cell)
            if not each.dropped:
                return cell
        return None

    def told(self, cell: Cell, run: TuningRun) -> None:
        """Note the result of a run."""
        self._measured[cell].runs.append(run)

    def failed(self, combo: Combo, reason: str) -> None:
        """Note that the combination cannot be measured: it is not tried again, and its earlier runs do not count."""
        for cell, each in self._measured.items():
            if cell.combo == combo:
                each.dropped = reason
                each.runs.clear()

    def _begin_round(self) -> bool:
        if self._round:
            self._drop()
        alive = [cell for cell, each in self._measured.items() if not each.dropped]
        if not alive or self._round == ROUNDS or (len(alive) == 1 and self._round >= FEW_RUNS):
            return False
        self._round += 1
        self._left = self._ordered(alive)
        return True

    def _ordered(self, cells: Sequence[Cell]) -> list[Cell]:
        """Sizes increase, because results of small batches can make larger ones unnecessary."""
        if self._together:
            return sorted(cells, key=lambda cell: (cell.size, cell.combo))
        by_combo = [list(group) for _, group in groupby(sorted(cells), key=lambda cell: cell.combo)]
        return [cell for group in (by_combo if self._round % 2 else reversed(by_combo)) for cell in group]

    def _foreseen(self, cell: Cell) -> str:
        """Why this cell need not be tried, by the smaller batches of its combination; empty if it must be."""
        before = [each for each in self.measured if each.cell.combo == cell.combo and each.cell.size < cell.size]
        if not before:
            return ""
        last = before[-1]
        if last.call_s * cell.size / last.cell.size > self._budget_s * LONGEST_SHARE:
            return "a call would take too long for --seconds"
        if self._target_s and last.call_s > OVER_TARGET * self._target_s:
            return "over the target"
        top = max(each.records_per_s for each in before)
        if len(before) > 1 and all(each.records_per_s < FALLING * top for each in before[-2:]):
            return "larger batches are slower"
        return ""

    def _drop(self) -> None:
        """Leave out cells that cannot become the best any more."""
        measured = self.measured
        if not measured:
            return
        chosen = best(measured, self._target_s)
        keeps = not self._target_s or chosen.call_s <= self._target_s
        for each in measured:
            if each is chosen or each.dropped:
                continue
            if self._target_s and each.call_s > OVER_TARGET * self._target_s:
                each.dropped = "over the target"
            share = DROP_BELOW[min(len(each.runs), FEW_RUNS) - 1]
            if keeps and each.records_per_s < share * chosen.records_per_s:
                each.dropped = each.dropped or "slower"
