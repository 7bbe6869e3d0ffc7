"""``python -m tests.soak.giants``: the largest possible aggregates on a real worker, in bounded memory.

One shard has three aggregates of 170,000 user records without a payload, one of 97,000, and one of 4,000 with a
partition key of 20,000 characters. The host's memory is measured all the time; the JVM logs its heap.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from consumer.local.process import LocalAWS
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.chaos import hostile
from tests.chaos.report import circumstances
from tests.e2e.rig import Rig, Worker, wait_until

BUILD = Path("build")
IN_FLIGHT_MIB, HEAP_MIB = 64, 256
USERS = hostile.HUGE_ONES * hostile.HUGE + hostile.EMPTIES + hostile.LONG_KEYED
KINDS = ("huge", "empties", "long key")
FIRST_S, DEADLINE_S = 120, 600
LOOK_S = 0.1
AT_MOST_MIB = 3 * IN_FLIGHT_MIB
"""MiB by which the host may grow: the records in flight, files that are being encoded, and memory that an allocator
keeps of both."""

HEAP = re.compile(r"Pause .* (\d+)M->(\d+)M\(")
"""A collection in the JVM's own log: its heap before and after."""

MIB = 1024 * 1024


class Watch(threading.Thread):
    """The maximum memory of a worker's processes, in MiB."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="watch", daemon=True)
        self.most = dict.fromkeys(("host", "jvm"), 0.0)
        self._host = psutil.Process(worker.process.pid)
        self._worker = worker
        self._over = threading.Event()

    def now(self) -> dict[str, float]:
        jvm = self._worker.tree()["jvm"]
        return {"host": self._host.memory_info().rss / MIB, "jvm": sum(each.memory_info().rss for each in jvm) / MIB}

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            with suppress(psutil.Error):
                self.most = {name: max(mib, self.most[name]) for name, mib in self.now().items()}

    def end(self) -> None:
        self._over.set()
        self.join()


def measure(folder: Path) -> dict[str, Any]:
    """One run. It has passed if ``problems`` is empty."""
    log = folder / "gc.log"
    with LocalAWS(limits=False) as aws:
        rig = Rig(aws, "giants", folder)
        rig.create(1)
        config = rig.config(
            model='factory = "tests.soak.model:Sized"\nversion = "1"\nthreads = 1',
            in_flight=f"total_mib = {IN_FLIGHT_MIB}",
            kcl=f"java_heap_mib = {HEAP_MIB}",
        ).resolve()
        try:
            worker = rig.start(config, JAVA_TOOL_OPTIONS=f"-Xlog:gc:file={log}", PENSTOCK_BATCH__MAX_RECORDS="1024")
            rig.put([(b"first", "key")])
            wait_until(lambda: worker.stats()["durable"], FIRST_S, "the first record is durable")
            watch = Watch(worker)
            before = watch.now()
            watch.start()
            began = time.monotonic()
            put(rig)
            rig.settle(DEADLINE_S)
            seconds = time.monotonic() - began
            watch.end()
            code = worker.leave()
        finally:
            rig.clean()
    heaps = [int(match[1]) for match in map(HEAP.search, log.read_text().splitlines()) if match]
    result = {
        **circumstances(),
        "seconds": round(seconds, 1),
        "users": USERS,
        "in_flight_mib": IN_FLIGHT_MIB,
        "heap_mib": HEAP_MIB,
        "heap_most_mib": max(heaps, default=0),
        "before_mib": {name: round(mib) for name, mib in before.items()},
        "most_mib": {name: round(mib) for name, mib in watch.most.items()},
    }
    return {**result, "problems": [*([f"left with {code}"] if code else []), *_problems(rig, result)]}


def put(rig: Rig) -> None:
    numbers = itertools.count()
    for kind in KINDS:
        for each in hostile.puts(kind, partial(next, numbers), "key", 1.0):
            rig.put([(each.data, each.key)])


def _problems(rig: Rig, result: dict[str, Any]) -> list[str]:
    places = [f"{file.name}" for file in rig.table.rglob("*.parquet")]
    rows = sum(pq.read_metadata(file).num_rows for file in rig.table.rglob("*.parquet"))
    found = [f"{problem.kind}: {problem.key}" for problem in _audited(rig)]
    if rows != USERS + 1:
        found.append(f"{rows} rows in {len(places)} files for {USERS + 1} user records")
    grown = result["most_mib"]["host"] - result["before_mib"]["host"]
    if grown > AT_MOST_MIB:
        found.append(f"the host grew by {grown} MiB, more than {AT_MOST_MIB}")
    if not 0 < result["heap_most_mib"] <= HEAP_MIB:
        found.append(f"the JVM's heap was not seen, or had {result['heap_most_mib']} MiB")
    return found


def _audited(rig: Rig) -> list[Any]:
    return list(audit(FolderStore(rig.table), FolderStore(rig.folder / "dead-letter")).problems)


def main() -> None:
    folder = (BUILD / "giants").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = measure(folder)
    (BUILD / "giants.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
