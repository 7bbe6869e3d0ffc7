"""The cost of the transport to the replica and back, with a model that does nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator

from pipeline.record import Enriched, Record
from pipeline.replicas.host import ModelHost
from tests.support.hosts import hosted

RECORDS = 40_000
BATCH = 512
PAYLOAD = os.urandom(900)

MOST_HOST_MICROSECONDS = 6.0
"""CPU time of the host per record in µs, so that other load does not count. 1.6 were measured, at 215,000 records/s."""


def batches() -> Iterator[list[Record]]:
    for first in range(0, RECORDS, BATCH):
        yield [Record("s", PAYLOAD, "key", str(n), 0, 1) for n in range(first, min(RECORDS, first + BATCH))]


def test_the_transport_costs_the_host_a_few_microseconds_per_record(
    record_property: Callable[[str, object], None],
) -> None:
    waiting = list(batches())

    async def body(host: ModelHost) -> None:
        async def work(mine: Iterator[list[Record]]) -> None:
            for records in mine:
                await host.settle(records)

        todo = iter(waiting)
        cpu, wall = time.process_time(), time.monotonic()
        await asyncio.gather(*(work(todo) for _ in range(host.slots)))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        record_property("records_per_s", RECORDS / wall)
        assert cpu / RECORDS * 1e6 < MOST_HOST_MICROSECONDS

    hosted(body, "Identity")
    assert all(isinstance(record.outcome, Enriched) for records in waiting for record in records)
