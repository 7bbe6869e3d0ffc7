"""Reports dead letters while the task runs: lines in the log, and an outage once a limit comes near."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from pipeline.dead_letters.log import INTERVAL_S, DeadLetterLog
from pipeline.flow.lane import Lane
from pipeline.outages import Component
from pipeline.record import Dead, Run

log = logging.getLogger("stage")


class DeadLetterReports:
    """The reports of one task. ``letters``: what is logged; None: nothing. ``suspicion``: shown as failing while a
    limit is near.
    """

    def __init__(self, letters: DeadLetterLog | None, suspicion: Component) -> None:
        self._letters = letters
        self._suspicion = suspicion
        self._later: asyncio.TimerHandle | None = None

    def note(self, run: Run) -> None:
        """Log the first dead letter of each sort at once, others as counts later. Call it in the event loop."""
        if self._letters is None:
            return
        for record in run.records:
            if isinstance(record.outcome, Dead):
                line = self._letters.note(record, record.outcome, run.shard.stream)
                if line is not None:
                    log.warning("%s", line)
        if self._letters.waits and self._later is None:
            self._later = asyncio.get_running_loop().call_later(INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Log the counts that were not logged yet."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._letters is not None and self._letters.waits:
            log.warning("%s", self._letters.counts())

    def suspect(self, lanes: Iterable[Lane]) -> None:
        """Show what may end the task; nothing if no open lane is suspicious."""
        said = [line for lane in lanes if (line := lane.gate.said())]
        if said:
            self._suspicion.failed("; ".join(said[:3]))
        else:
            self._suspicion.worked()
