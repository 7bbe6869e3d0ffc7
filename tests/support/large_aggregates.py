"""A task's host with the largest possible aggregates: ``python -m tests.support.large_aggregates FOLDER
IN_FLIGHT_MIB``.

Sessions, stage and Parquet sink are real; KCL and the model are fakes. It prints by how many MiB the memory of the
process grew at most after the first record. Records without a payload become rows if they are in the largest
aggregates, as with a model that has its own ``decode``, and else dead letters.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa

from consumer.kcl.bridge_server import Decoder
from consumer.kcl.session import ShardSession
from consumer.testing.fake_kcl import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Dead, Enriched, Outcome, Record, Shard
from pipeline.sinks.parquet import ParquetSink
from pipeline.stage import Stage
from pipeline.stores.folder import FolderStore
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger
from pipeline.testing import FakeJudge
from tests.chaos import hostile

MIB = 1024 * 1024
SHARD = Shard("events", 1, "shardId-000000000000")
COLUMNS = pa.schema([("n", pa.int64())])
ONE = pa.record_batch({"n": [0]})
FIRST_SEQUENCE = 10**55
HUGE_ONES = 2
"""They are enough: all at once, their records need twice the memory of the window."""
ROWS_END = str(FIRST_SEQUENCE + HUGE_ONES)
DEADLINE_S = 120.0


def verdict(record: Record) -> Outcome:
    if record.sequence < ROWS_END:  # as texts: they have the same length
        return Enriched(ONE, 0)
    return Dead(record.data, "payload is not JSON", "", 1, "decode")


def messages(scale: float = 1.0) -> list[list[hostile.Put]]:
    """The size of a message of KCL: at most 10 MiB, like one read."""
    numbers = itertools.count()
    kinds = ["huge", "empties", "long key"]
    return [
        list(itertools.islice(hostile.puts(kind, partial(next, numbers), "key", scale), HUGE_ONES)) for kind in kinds
    ]


async def consumed(folder: Path, in_flight_mib: int, said: list[list[hostile.Put]]) -> None:
    """Send everything that KCL has, until it is durable and checkpointed, and the shard is at its end."""
    metrics, decoder, kcl = Metrics(), Decoder(), FakeKcl()
    sink = ParquetSink(
        name="parquet",
        store=FolderStore(folder / "table"),
        flush_interval_s=1.0,
        flush_mib=8.0,
        schema=TableSchema(COLUMNS, "events", "m@1"),
        ledger=Ledger(FolderStore(folder / "dead"), FolderStore(folder / "dead.staged")),
    )
    batcher = Batcher(max_records=1024, max_cost=0, linger_s=0.01)
    stage = Stage(FakeJudge(verdict), batcher, [sink], Bounds(2_000, in_flight_mib * MIB), metrics)
    session = ShardSession(kcl, stage, lambda shard_id: SHARD, asyncio.Event(), metrics.records, decoder)
    running = [asyncio.ensure_future(stage.run()), asyncio.ensure_future(session.run())]
    sequences = itertools.count(FIRST_SEQUENCE)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await kcl.initialize(SHARD.shard_id)
            for puts in said:
                await kcl.process([row(next(sequences), put.data, 0, put.key) for put in puts])
            await kcl.say("shardEnded")
            assert kcl.checkpoints[-1] is None
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await sink.close()
        decoder.close()


def memory_mib(what: str) -> float:
    """``VmRSS``: memory now. ``VmHWM``: the maximum since :func:`forget`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def main(folder: Path, in_flight_mib: int) -> None:
    asyncio.run(consumed(folder / "before", in_flight_mib, messages(0.01)))
    said = messages()
    Path("/proc/self/clear_refs").write_text("5")  # forget the most that it ever had
    before_mib, began = memory_mib("VmRSS"), time.monotonic()
    asyncio.run(consumed(folder / "it", in_flight_mib, said))
    seconds = time.monotonic() - began
    grown = memory_mib("VmHWM") - before_mib
    print(json.dumps({"grown_mib": round(grown, 1), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
