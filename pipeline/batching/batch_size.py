"""Learns the best batch size from the calls so far. Pure: no clock, no random numbers.

The best batch is often small on CPUs and large on GPUs. It depends on the model, the machine and the lengths of the
items; so it is measured, never assumed. Sizes form a ladder with steps of about 1.4. Most batches have the best known
size. Some batches try the next smaller or larger size. Each is compared with the batches just before it, so that
a slow change of the machine is not mistaken for an effect of the size. A size that is clearly faster becomes the best
known one; a size that is not is tried less often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log, log2, sqrt
from statistics import median

from pipeline.batching.batcher import BatchPlan
from pipeline.batching.call_times import Line, Rate
from pipeline.batching.forecast import CallForecast
from pipeline.events import Predicted

START_RECORDS = 8
"""Records of the first batches: few enough that no model takes minutes for one."""

START_S = 1.0
"""Seconds that a first batch may take, as predicted from the model's example."""

CALL_S = 0.0005
"""Approximate cost of a call outside the replica, in seconds: a model that does almost nothing needs large batches."""

WARM_CALLS = 2
"""How many first calls of a replica are ignored."""

NEARBY = (1, -1, 2, -2, -4)
"""Sizes that are tried, in steps on the ladder from the usual one."""

FAR, FAR_GAIN = 4, 0.15
"""A batch four times as large is expensive to try; it is tried only if the fitted line predicts such a gain."""

GOLDEN = (sqrt(5) - 1) / 2
"""The fractions of its multiples are spread as evenly as possible and follow no period, so replicas that take turns
try sizes equally often.
"""

FIRST_EVERY, LATER_EVERY, LAST_EVERY = 2, 32, 256
"""A size nearby is tried in one of this many batches, and less often each time that it was not better. After a move,
sizes in the same direction are tried first."""

LATE, LATE_AT_LEAST = 5, 3
"""A batch of another size is compared with the median of this many recent batches of the usual size (at most, at
least)."""

LEAST_TRIES, MOST_TRIES = 3, 64
GAIN = 0.005
"""A size must be faster by this share to become the usual one."""

DEAR = 0.04
"""A size that is slower by this share is not tried for a long time: trying it is expensive."""

SURE = 2.0
"""How many standard errors make a difference clear."""

NOISE = 0.015
"""A comparison is never considered more exact than this share."""

NOISE_CALLS, MOST_OFF = 50, 0.7
"""The recent spread of usual rates is taken over this many calls; a call that is further off counts as this much."""

FULL = 0.77
"""A batch has a size of the ladder if it fills at least this share of it."""

UNFILLED = 24
"""A size that this many planned batches in a row did not reach, for lack of records, is out of reach for now."""


CHANGED = 0.5
"""If the usual rate's logarithm changes by more than this, earlier comparisons are dropped."""


@dataclass(slots=True)
class _Trial:
    """Comparisons of a size near the usual one. ``gains``: how much faster its batches were; ``rates``: their rates
    by replica. All are logarithms.
    """

    every: int = FIRST_EVERY
    since: int = 0
    unfilled: int = 0
    gains: list[float] = field(default_factory=list)
    rates: list[tuple[int, float]] = field(default_factory=list)

    def rest(self, longer: int = 2) -> None:
        self.every = min(LAST_EVERY, self.every * longer)
        self.since = self.unfilled = 0
        self.gains.clear()
        self.rates.clear()


class BatchSizeController:
    """Learns from predict calls (:meth:`learn`) and sets the limits of the next batch (:attr:`plan`).

    Sizes are records, or, if the model ``measures`` them, costs as in :func:`pipeline.record.cost_of`. ``target_s``:
    the most that a predict call may take, by the slowest replica's fit; None: only throughput counts.
    """

    def __init__(
        self,
        *,
        max_records: int,
        max_cost: int,
        measures: bool,
        target_s: float | None = None,
        example_s: float | None = None,
        start: BatchPlan | None = None,
    ) -> None:
        """``start``: the best plan of an earlier time, if known. ``example_s``: seconds of a call with the model's
        example.
        """
        self._max_records = max_records
        self._max_cost = max_cost
        self._measures = measures
        self._target_s = target_s
        fits = int(START_S / example_s) if example_s else START_RECORDS
        self._start = max(1, min(START_RECORDS, fits, max_records))
        self._rung: int | None = None
        if best := start and (start.cost if measures else start.records):
            self._rung = _rung(best)
        elif not measures:
            self._rung = _rung(self._start)
        self._trials: dict[int, _Trial] = {}
        self._tried = 0
        self._calls: dict[int, int] = {}
        self._forecast = CallForecast(measures=measures)
        self._formed = 0
        self._late: dict[int, deque[float]] = {}
        self._noise = NOISE
        self._settled: float | None = None
        self._rate = Rate()

    @property
    def plan(self) -> BatchPlan:
        """The limits of the next batch; they change only in :meth:`formed`."""
        if self._rung is None:
            return BatchPlan(self._start, self._max_cost)
        size = _size(self._rung + self._tried)
        if not self._measures:
            return BatchPlan(size)
        return BatchPlan(self._max_records, size, min(self._forecast.call_cost(), size // 4))

    @property
    def usual(self) -> int | None:
        """The best known size; None before anything is known."""
        return None if self._rung is None else _size(self._rung)

    @property
    def best_rate(self) -> float | None:
        """Size per second of an undisturbed replica at the usual size; None until a few batches had it."""
        return self._rate.best

    def line(self, replica: int) -> Line | None:
        """Return the fitted duration of a call on this replica; None until a few calls were seen."""
        return self._forecast.line(replica)

    def sizes(self, call: Predicted) -> tuple[int, int]:
        """Return a call's size, with and without padding."""
        return (call.padded, call.cost) if self._measures else (call.records, call.records)

    def is_small(self, size: int) -> bool:
        """Whether a batch of this size is clearly smaller than the best size."""
        return self._rung is not None and size < FULL * _size(self._rung)

    def formed(self) -> None:
        """A batch was formed by :attr:`plan`: choose the size of the next one."""
        if self._rung is None:
            return
        if self._tried:
            trial = self._trials.setdefault(self._tried, _Trial())
            trial.unfilled += 1
            if trial.unfilled > UNFILLED:
                trial.rest()
        self._formed += 1
        self._tried = self._next_tried() if self._formed * GOLDEN % 1 < 0.5 and self._known else 0

    def learn(self, call: Predicted) -> None:
        """Learn from a predict call that has returned."""
        calls = self._calls[call.replica] = self._calls.get(call.replica, 0) + 1
        if calls <= WARM_CALLS or not call.records:
            return
        size, _ = self.sizes(call)
        seconds = call.seconds + CALL_S
        self._forecast.learn(call, seconds)
        if self._rung is None:
            self._rung = min(_rung(size), self._top())
        if self._is_full(size, 0):
            self._rate.add(size, seconds)
        self._compare(size, log(size / seconds), call.replica)
        self._rung = max(0, min(self._rung, self._top()))

    # -- sizes

    def _is_full(self, size: int, steps: int) -> bool:
        """Whether a batch has the size that is this many steps from the usual one."""
        assert self._rung is not None
        full = _size(self._rung + steps)
        return FULL * full <= size <= full

    def _top(self) -> int:
        """The largest size that the settings and the target allow."""
        most = (self._max_cost or 2**62) if self._measures else self._max_records
        top = _rung(most)
        if self._target_s is not None:
            while top and self._forecast.seconds(_size(top)) > self._target_s:
                top -= 1
        return top

    # -- trials

    @property
    def _known(self) -> bool:
        """Whether there are enough batches to compare with."""
        return any(len(late) >= LATE_AT_LEAST for late in self._late.values())

    def _next_tried(self) -> int:
        assert self._rung is not None
        top = self._top()
        due: list[tuple[float, int]] = []
        far = self._forecast.gain(_size(self._rung), _size(self._rung + FAR)) > FAR_GAIN
        for steps in (*NEARBY, FAR) if far else NEARBY:
            if not 0 <= self._rung + steps <= top:
                continue
            trial = self._trials.setdefault(steps, _Trial())
            trial.since += 1
            if trial.since >= trial.every:
                due.append((trial.since / trial.every, steps))
        if not due:
            return 0
        _, steps = max(due)
        self._trials[steps].since = 0
        return steps

    def _compare(self, size: int, rate: float, replica: int) -> None:
        """``rate``: the logarithm of size per second."""
        assert self._rung is not None
        late = self._late.setdefault(replica, deque(maxlen=LATE))
        known = len(late) >= LATE_AT_LEAST
        if self._is_full(size, 0):
            if known:
                self._noise += (min(MOST_OFF, abs(rate - median(late))) - self._noise) / NOISE_CALLS
            late.append(rate)
            self._look_around(median(late))
            return
        for steps, trial in self._trials.items():
            if known and self._is_full(size, steps):
                trial.unfilled = 0
                trial.gains.append(rate - median(late))
                trial.rates.append((replica, rate))
                self._judge(steps, trial)
                return

    def _look_around(self, rate: float) -> None:
        """Drop what is known of other sizes if the usual size has become much slower or faster."""
        if self._settled is None:
            self._settled = rate
        elif abs(rate - self._settled) > max(CHANGED, 3 * self._noise):
            self._settled = rate
            self._trials.clear()

    def _judge(self, steps: int, trial: _Trial) -> None:
        """Decide by the median: a pause of the machine does not count against the size that it hit."""
        tries = len(trial.gains)
        if tries < LEAST_TRIES:
            return
        gain = median(trial.gains)
        noise = max(NOISE, self._noise, spread(gain, trial.gains))
        doubt = SURE * noise / sqrt(tries)
        if gain - doubt > log(1 + GAIN):
            self._move(steps, trial.rates)
        elif gain + doubt < -DEAR:
            trial.rest(longer=8)
        elif gain + doubt < log(1 + GAIN) or tries >= MOST_TRIES:
            trial.rest()

    def _move(self, steps: int, rates: Sequence[tuple[int, float]]) -> None:
        """Make another size the usual one. ``rates``: those already measured with it."""
        assert self._rung is not None
        self._rung += steps
        self._tried = 0
        self._late.clear()
        for replica, rate in rates:
            self._late.setdefault(replica, deque(maxlen=LATE)).append(rate)
        self._settled = None
        self._rate = Rate(self._rate.best)
        ahead = steps > 0
        self._trials = {near: _Trial(FIRST_EVERY if (near > 0) == ahead else LATER_EVERY) for near in NEARBY}


def spread(middle: float, values: Sequence[float]) -> float:
    """Return the standard deviation, estimated from the median of the deviations."""
    return 1.48 * median(abs(value - middle) for value in values)


def _size(rung: int) -> int:
    """1, 2, 3, 4, 6, 8, 12, 16, 23, 32 …"""
    return ceil(2 ** ((rung + 1) / 2) - 1e-9) if rung else 1


def _rung(size: int) -> int:
    """Index of the largest size that is not above ``size``."""
    rung = int(2 * log2(max(1, size))) + 1
    while _size(rung) > size:
        rung -= 1
    return rung
