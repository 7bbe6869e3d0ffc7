"""Which replicas, threads and batches to measure, when, and which of them are best. Pure: no clock, no model.

Everything is measured in rounds: each cell once, then each once more, so that a busy neighbour on the machine meets all
of them alike; medians are compared. What is clearly worse is left out of later rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

ROUNDS = 7
"""Enough for a median that no single pause of the machine moves."""

RUNS_S = (0.1, 2.0)
"""A run takes at least, and at most, so long; calls that have begun are waited for besides."""

EXPECTED_ROUNDS = 4
"""Among so many rounds the budget is shared out: later ones are shorter, for much has been left out by then."""

LONGEST_SHARE = 0.05
"""Of the budget, for one predict call. What takes longer cannot be measured within it."""

FALLING = 0.8
"""Two batch sizes in a row below this share of the combination's best: larger ones are not tried."""

HOPELESS = (0.5, 0.75, 0.9)
"""Below this share of the best rate a cell is left out: after one run, after two, and after three or more.
A single run may have met a pause of the machine's."""

FEW_RUNS = len(HOPELESS)
OVER_TARGET = 1.25
"""A cell whose calls take so many times what they may is left out, and larger batches with it."""


@dataclass(frozen=True, slots=True, order=True)
class Combo:
    """How many replicas, with how many threads each."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is measured at a time: ``size`` is how many usual records a batch has."""

    combo: Combo
    size: int


@dataclass(frozen=True, slots=True)
class TuningRun:
    """``records_per_s``: of all replicas together. ``call_s``: what nine predict calls of ten kept within."""

    records_per_s: float
    call_s: float


@dataclass(slots=True)
class Measured:
    """A cell and its runs, at least one. ``dropped``: why there were no more; empty if nothing spoke against it."""

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
        """Between the least and the largest rate, as a share of the median."""
        rates = [run.records_per_s for run in self.runs]
        return (max(rates) - min(rates)) / self.records_per_s if self.records_per_s else 0.0


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A predict call that came back ``at_s``: ``records`` as usual records, ``call_s`` inside the replica."""

    at_s: float
    replica: int
    records: float
    call_s: float


def run_of(answers: Sequence[TimedCall], began_s: float) -> TuningRun:
    """What a run's answers, at least one, come to.

    Each replica counts from its first answer to its last: what it had begun before or left behind says nothing, so
    many replicas are at no disadvantage when a run ends. One with a single answer counts from the beginning.
    """
    rate = 0.0
    for _, group in groupby(sorted(answers, key=lambda each: (each.replica, each.at_s)), key=lambda each: each.replica):
        first, *later = group
        counted, since_s = (later, first.at_s) if later else ([first], began_s)
        rate += sum(each.records for each in counted) / max(1e-9, counted[-1].at_s - since_s)
    calls = sorted(each.call_s for each in answers)
    return TuningRun(rate, calls[min(len(calls) - 1, len(calls) * 9 // 10)])


def combos(cores: int, replicas: int | None = None, threads: int | None = None, gpus: int = 0) -> list[Combo]:
    """The combinations that are worth a try on so many cores; one that is set, in the configuration say, stays so.

    Replicas double from one to the cores; each has its share of the cores, or half of it, where cores come in pairs
    that share their arithmetic. More threads than cores are never tried, unless that is what is set. On GPUs there is
    one replica for each, or two, one of which prepares what the other computes.
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
    """Batches to try: 1, 2, 4 … and the largest there may be."""
    return _doubling(max(1, most))


def _doubling(most: int) -> list[int]:
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def best(measured: Iterable[Measured], target_s: float = 0.0) -> Measured:
    """The quickest whose calls keep to ``target_s`` (0: no matter); if none does, the one with the shortest calls.

    Of two that are equally quick the one with fewer replicas, threads and records. ``ValueError`` if there are none.
    """
    known = [each for each in measured if each.runs]
    keeping = [each for each in known if not target_s or each.call_s <= target_s]
    if not keeping:
        return min(known, key=lambda each: (each.call_s, each.cell))
    return min(keeping, key=lambda each: (-each.records_per_s, each.cell))


class Search:
    """Says by :meth:`next` what to measure, and is told by :meth:`told` what came of it.

    ``together``: all combinations are loaded at the same time, so that going from one to the next costs nothing; a
    round then goes from size to size, else from combination to combination, there and back.
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
        """How long a run is to be."""

    @property
    def measured(self) -> list[Measured]:
        """Every cell that has runs, in order."""
        return [each for _, each in sorted(self._measured.items()) if each.runs]

    @property
    def dropped(self) -> dict[Cell, str]:
        """Those that were left out at some time, and why."""
        return {cell: each.dropped for cell, each in sorted(self._measured.items()) if each.dropped}

    @property
    def round(self) -> int:
        """1 for the first."""
        return self._round

    def next(self, spent_s: float) -> Cell | None:
        """The cell whose turn it is, ``spent_s`` after the beginning; None: it is enough, or time is up."""
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
        """A run has ended."""
        self._measured[cell].runs.append(run)

    def failed(self, combo: Combo, reason: str) -> None:
        """The combination cannot be measured: it is not tried again, and what it showed before is no choice."""
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
        """Sizes go up, for what is known of small batches spares the large ones."""
        if self._together:
            return sorted(cells, key=lambda cell: (cell.size, cell.combo))
        by_combo = [list(group) for _, group in groupby(sorted(cells), key=lambda cell: cell.combo)]
        return [cell for group in (by_combo if self._round % 2 else reversed(by_combo)) for cell in group]

    def _foreseen(self, cell: Cell) -> str:
        """Why a larger batch of this combination needs no try; empty if it does."""
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
        """What cannot become the best any more."""
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
            share = HOPELESS[min(len(each.runs), FEW_RUNS) - 1]
            if keeps and each.records_per_s < share * chosen.records_per_s:
                each.dropped = each.dropped or "slower"
