"""From a settled record to the sinks: released in order, held back while it is suspicious, written.

:mod:`pipeline.dead_letters` decides; this module carries it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from operator import attrgetter

from pipeline.dead_letters.limit import NO_LIMITS, Limits, Tally
from pipeline.errors import Fatal
from pipeline.flow.bounds import Room
from pipeline.flow.dead_letter_reports import DeadLetterReports
from pipeline.flow.lane import Lane
from pipeline.metrics import Metrics
from pipeline.record import Dead, Run

_OUTCOME = attrgetter("outcome")

HOLD_S = 2.0
"""A shard without a backlog that has settled nothing for this many seconds will not soon show what its held records
are.
"""


class Outlet:
    """The outlet of one task. ``stopped``: why the task must end because of too many dead letters; nothing passes from
    then on."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        room: Room,
        metrics: Metrics,
        reports: DeadLetterReports,
        limits: Limits | None,
        *,
        keeps_payloads: bool,
        fail: Callable[[BaseException], None],
    ) -> None:
        """``lanes``: the open ones, by shard id. ``keeps_payloads``: a sink wants the payloads of dead letters."""
        self.stopped: str | None = None
        self._lanes = lanes
        self._room = room
        self._metrics = metrics
        self._reports = reports
        self._tally = Tally(limits or NO_LIMITS)
        self._keeps_payloads = keeps_payloads
        self._fail = fail

    def release(self, lane: Lane) -> None:
        """Write the longest settled prefix of the window, as far as the lane's gate lets it pass."""
        if run := lane.window.release(keep_payloads=self._keeps_payloads):
            self._settled(lane, run)

    def let_go(self, lane: Lane) -> None:
        """Write what is held back, if the limits allow it: nothing more comes that would decide it."""
        self._pass(lane, lane.gate.let_go())

    def end(self, lane: Lane) -> None:
        """Write everything that is held back: the shard has ended."""
        self._pass(lane, lane.gate.end())

    def hold_less(self) -> None:
        """Write what one lane holds back, or stop, if records that are held back fill the task."""
        if (lane := self._room.holds_back_too_much()) is not None:
            self._pass(lane, lane.gate.overflow())

    def expect_nothing(self, lane: Lane) -> None:
        """If records are held back and nothing is in progress behind them, check later whether anything arrived."""
        if lane.gate and not lane.unsettled:
            asyncio.get_running_loop().call_later(HOLD_S, self._wait_no_more, lane, lane.gate.turn)

    def _wait_no_more(self, lane: Lane, turn: int) -> None:
        if self._lanes.get(lane.shard.shard_id) is not lane or lane.unsettled or lane.gate.turn != turn:
            return
        if lane.behind:
            self.expect_nothing(lane)
            return
        self.let_go(lane)

    def _settled(self, lane: Lane, run: Run) -> None:
        dead = list(map(type, map(_OUTCOME, run.records))).count(Dead)
        self._metrics.records.settled(lane.shard.shard_id, len(run.records) - dead, dead)
        if dead:
            self._reports.note(run)
        passes = lane.gate.take(run, dead)
        if dead:
            self._tally.all_of(run.records)
            lane.gate.stop(self._tally)
        else:
            self._tally.rows(len(run.records))
        if dead or lane.gate:
            self._reports.suspect(self._lanes.values())
        self._pass(lane, passes)
        self.expect_nothing(lane)

    def _pass(self, lane: Lane, run: Run | None) -> None:
        """Write a run, unless the task has to end and the run must not become durable."""
        if lane.gate.stopped and not self.stopped:
            self.stopped = lane.gate.stopped
            self._metrics.dead_letters.stopped(self.stopped)
            self._fail(Fatal(self.stopped))
        if run is None or self.stopped:
            return
        lane.released.add(run.end, len(run.records), run.records[0].arrived_ms)
        for writer in lane.writers:
            writer.write(run)
