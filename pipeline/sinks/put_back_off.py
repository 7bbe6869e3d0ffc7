"""Decides how long a writer waits after a call with refused rows, and when it gives up."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pipeline.errors import Fatal, counted
from pipeline.outages import Outages
from pipeline.retry import Retry
from pipeline.sinks import SinkEvents
from pipeline.sinks.put_answers import PutAnswer

log = logging.getLogger("sink.kinesis")

SEND = Retry(0.1, 10.0, jitter=0.5)
"""Retries of refused rows. A call of which some rows are accepted counts as the first failure: only some shards are
full.
"""


class PutBackOff:
    """The back-off of one writer. ``name``: of the sink; ``shard_id``: of the source shard."""

    def __init__(
        self,
        name: str,
        shard_id: str,
        outages: Outages,
        give_up_after_s: float,
        events: SinkEvents,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._name = name
        self._shard_id = shard_id
        self._outage = outages.part(name, give_up_after_s)
        self._events = events
        self._sleep = sleep
        self._fruitless = 0
        self._refused = 0

    async def __call__(self, answer: PutAnswer) -> None:
        """Wait: longer while no row is accepted, briefly if only some shards of the stream are full.

        :raises Fatal: no row has been accepted for too long.
        """
        accepted = sum(answer.accepted)
        self._fruitless = 0 if accepted else self._fruitless + 1
        if accepted:
            self._outage.worked()
        elif self._outage.failed(answer.reason, refused=answer.refused):
            lasted_s = self._outage.trouble().lasted_s
            raise Fatal(f"sink {self._name}: {lasted_s:.0f} s without a row accepted: {answer.reason}")
        if accepted == len(answer.accepted):
            self._refused = 0
            return
        self._refused += 1
        self._events.on_retry()
        wait_s = SEND.wait_s(self._fruitless + 1)
        self._tell(answer, wait_s)
        await self._sleep(wait_s)

    def forget(self) -> None:
        """The writer was abandoned: it is not shown as failing any more."""
        self._outage.worked()

    def _tell(self, answer: PutAnswer, wait_s: float) -> None:
        """Log each long wait; of many short ones the 1st, 2nd, 4th, 8th …"""
        if wait_s < SEND.last_s / 2 and self._refused.bit_count() > 1:
            return
        log.warning(
            "%s: %s: %d of %s refused, again in %.1f s (call %d in a row): %s",
            self._name,
            self._shard_id,
            len(answer.accepted) - sum(answer.accepted),
            counted(len(answer.accepted), "row"),
            wait_s,
            self._refused,
            answer.reason,
        )
