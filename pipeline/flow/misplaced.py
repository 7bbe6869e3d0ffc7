"""Aggregates that hold user records of another shard: reported, and delivered like any other.

The KPL groups user records by the shard that they belong to. If an aggregate arrives through another shard, for example
after a reshard, KPL's rule is that the producer sends such records again and a reader drops the whole aggregate. But an
aggregate does not show whether its producer was the KPL, so nothing is dropped here: records that were sent again have
two rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from pipeline.hash_keys import HashRange
from pipeline.metrics.records import RecordMetrics
from pipeline.record import Position, Shard

log = logging.getLogger("stage")

INTERVAL_S = 60.0

HashRangeOf = Callable[[str], Awaitable[HashRange | None]]
"""Returns the hash keys of a shard, by its id; None if they are unknown or have no meaning."""


async def unknown(shard_id: str) -> HashRange | None:
    """Return None for every shard, so that no aggregate is misplaced."""
    return None


class Misplaced:
    """Reports of one task. Each aggregate counts once; the first is logged at once, others as counts.

    ``within`` is called once for each session, before its first record is taken in, and must answer soon.
    """

    def __init__(self, metrics: RecordMetrics, within: HashRangeOf = unknown) -> None:
        self.within = within
        self._metrics = metrics
        self._any = False
        self._untold: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None

    def note(self, shard: Shard, positions: list[Position]) -> None:
        """These aggregates of a shard are misplaced; the list is emptied. Call it in the event loop."""
        if not positions:
            return
        self._metrics.misplaced(len(positions))
        self._untold[shard.shard_id] += len(positions)
        if not self._any:
            self._any = True
            self._untold[shard.shard_id] -= 1
            log.warning(
                "the aggregate at %s/%s/%s holds user records with hash keys of another shard. It is delivered; "
                "its producer may have sent them again, as the KPL does. Others like it are only counted here",
                shard.stream,
                shard.shard_id,
                positions[0].sequence,
            )
        positions.clear()
        if self._telling is None and self._untold.total():
            self._telling = asyncio.get_running_loop().call_later(INTERVAL_S, self.tell)

    def tell(self) -> None:
        """Log the counts that were not logged yet."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        told = ", ".join(f"{count:,} of {shard_id}" for shard_id, count in self._untold.most_common(10) if count)
        if told:
            more = f", and of {len(self._untold) - 10} other shards" if len(self._untold) > 10 else ""
            log.warning("further aggregates with another shard's user records: %s%s", told, more)
        self._untold.clear()
