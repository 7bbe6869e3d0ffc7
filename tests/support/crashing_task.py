"""A task that its own model may kill. It settles a few batches with a real model host, and writes the outcomes of the
records, unless it dies of one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.outages import Outages
from pipeline.record import Dead, Record, Shard
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.host import ModelHost
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.stores.calls import SureCalls, Threads
from pipeline.stores.folder import FolderStore
from pipeline.testing.model_settings import host_settings
from tests.support.hosts import ROOT, kill_host
from tests.support.models import Toy

SHARD = Shard("events", 1, "shardId-000000000000")
RECORDS, BATCH, DEADLY = 24, 8, 13
ARRIVED_MS = 1_795_000_000_000


class Doomed(Toy):
    """Kills the host as well, as a kernel does that kills a container because of one record's memory."""

    def one(self, item: Mapping[str, Any], beside: int) -> Any:
        if item["n"] == DEADLY:
            kill_host()
        return super().one(item, beside)


async def main(folder: Path, changes: int) -> dict[str, Any]:
    async def switches(shard_id: str) -> int:
        return changes

    threads = Threads("suspects")
    notes = CrashJournal(FolderStore(folder), SureCalls(threads, Outages().part("suspects")), switches=switches)
    settings = host_settings("tests.support.crashing_task:Doomed", search_path=(str(ROOT),))
    host = ModelHost(settings, notes=notes)
    judge = JournaledHost(host, notes, retries=1, on_event=lambda event: None)
    records = [
        Record(SHARD.shard_id, json.dumps({"n": n}).encode(), "key", str(n), 0, ARRIVED_MS) for n in range(RECORDS)
    ]
    try:
        await host.start()
        await judge.recall(SHARD, records[0])
        for start in range(0, RECORDS, BATCH):
            await judge.settle(records[start : start + BATCH])
    finally:
        await host.stop()
        threads.close()
    reasons = {record.sequence: record.outcome.reason for record in records if isinstance(record.outcome, Dead)}
    settled = sum(record.outcome is not None for record in records)
    return {"settled": settled, "dead": reasons}


def task(folder: Path, changes: int) -> None:
    """Runs in a separate process. ``changes``: of the shard's owner so far."""
    told = asyncio.run(main(folder / "notes", changes))
    (folder / "told.json").write_text(json.dumps(told))
