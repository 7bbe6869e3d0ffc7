"""CPU time of a task for a stream of KPL aggregates: JVM, bridges, host, and a model that does nothing.

    python benchmarks/aggregated_task.py beside CHECKOUT RUNS

It uses the real KCL and the local AWS, with one shard, and takes turns with another checkout of Penstock, in processes
that run this file with that checkout's code. build/task.json has every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.e2e.rig import Rig, Worker

THIS = Path(__file__).resolve().parent.parent
AGGREGATES, AT_A_TIME, FIRST_S, DEADLINE_S = 300, 40, 120, 300
PARTS = ("host", "jvm", "bridge", "replica")


def measure(recording: Path) -> dict[str, float]:
    """Return µs of CPU time for each user record, by process, and user records per second; after a run to warm up."""
    from consumer.local.process import LocalAWS
    from tests.e2e.rig import Rig, wait_until

    data = recording.read_bytes()
    holds = int(recording.suffix[1:])
    with tempfile.TemporaryDirectory() as folder, LocalAWS(limits=False) as aws:
        rig = Rig(aws, "aggregated", Path(folder))
        rig.create(1)
        config = rig.config(model='factory = "benchmarks.noop:Noop"\nversion = "1"\nthreads = 1')
        try:
            worker = rig.start(config, PENSTOCK_BATCH__MAX_RECORDS="1024")
            durable = 0
            for count in (1, AGGREGATES // 4, AGGREGATES):
                before, began = _taken_s(worker), time.monotonic()
                _put(rig, data, count)
                durable += count * holds
                wait_until(lambda: worker.stats()["durable"] >= durable, DEADLINE_S, "all is durable")  # noqa: B023  # it waits here
                seconds, after = time.monotonic() - began, _taken_s(worker)
            worker.leave()
        finally:
            rig.clean()
    records = AGGREGATES * holds
    found = {part: 1e6 * (after[part] - before.get(part, 0.0)) / records for part in PARTS}
    return {**found, "task": sum(found.values()), "rate": records / seconds}


def _put(rig: Rig, data: bytes, count: int) -> None:
    for first in range(0, count, AT_A_TIME):
        rig.put([(data, "key")] * min(AT_A_TIME, count - first))


def _taken_s(worker: Worker) -> dict[str, float]:
    """CPU seconds that a worker's processes have used."""
    tree = worker.tree()
    found = {part: sum(sum(each.cpu_times()[:2]) for each in tree.get(part, ())) for part in PARTS}
    return {**found, "host": sum(psutil.Process(worker.process.pid).cpu_times()[:2])}


def beside(checkout: Path, runs: int) -> None:
    """Measure both trees in turns and write build/task.json."""
    from benchmarks import aggregated
    from tests.chaos.report import circumstances

    commit = ["git", "rev-parse", "--short", "HEAD"]
    other = subprocess.run(commit, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()
    result: dict[str, Any] = {**circumstances(), "beside": other, "ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / f"aggregate.{aggregated.HOLDS}"
        recording.write_bytes(aggregated.one())
        for _ in range(runs):
            for side, tree in (("ours", THIS), ("theirs", checkout)):
                result[side].append(_of(tree, recording))
                sys.stdout.write(f"{side}: {json.dumps(result[side][-1])}\n")
                sys.stdout.flush()
    (THIS / "build").mkdir(exist_ok=True)
    (THIS / "build" / "task.json").write_text(json.dumps(result, indent=2) + "\n")


def _of(checkout: Path, recording: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "once", str(recording)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["beside", checkout, runs]:
            beside(Path(checkout).resolve(), int(runs))
        case ["once", recording]:
            sys.stdout.write(f"{json.dumps(measure(Path(recording)))}\n")
        case _:
            sys.exit(__doc__)
