"""One drain: a worker that computes batches gets SIGTERM, and what it leaves is checked."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from consumer.local.process import LocalAWS
from pipeline.record import Position
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.chaos.producer import payload
from tests.e2e.rig import Rig, Worker, wait_until

BATCH, SHARDS = 8, 2
GRACE_S, BUDGET_S = 80.0, 90.0
"""Two batches of 30 s, 5 s to flush and 2 s to checkpoint fit into the grace; the grace and 5 s fit into the budget."""

FIRST_S = 90
FINISH_BELOW_S = 3.0
"""If batches take at most this long, a second worker finishes the rest."""

FEWEST, MOST = 6, 80
WORK_S = 20.0
"""As many batches are put as make this much work, within those bounds."""


@dataclass(slots=True)
class Drain:
    """Times in seconds. ``finished``: records that the model had predicted when the task ended. ``checkpointed``: those
    of them that are before a checkpoint and in the table. The run has passed if ``problems`` is empty."""

    batch_s: float
    moment_s: float = 0.0
    leave_s: float = 0.0
    allowed_s: float = 0.0
    exit_code: int = 0
    records: int = 0
    finished: int = 0
    checkpointed: int = 0
    left_to_the_next: int = 0
    problems: list[str] = field(default_factory=list)


def drain(aws: LocalAWS, folder: Path, batch_s: float, dice: random.Random) -> Drain:
    """Put records, wait for batches, send SIGTERM at a random time, and check. :raises AssertionError: no batch has
    begun."""
    scene = Scene(Rig(aws, f"soak-{folder.name}", folder), batch_s)
    result = Drain(batch_s, allowed_s=BUDGET_S)
    try:
        result.records = scene.put()
        worker = scene.start()
        wait_until(lambda: scene.begun() > scene.least, FIRST_S + scene.least * batch_s, "batches in the model")
        result.moment_s = round(dice.uniform(0, batch_s), 2)
        time.sleep(result.moment_s)  # the random moment
        began = time.monotonic()
        result.exit_code = worker.leave(int(BUDGET_S) + 30)
        result.leave_s = round(time.monotonic() - began, 2)
        scene.look(worker, result)
        if batch_s <= FINISH_BELOW_S:
            scene.finish(result)
    finally:
        scene.rig.clean()
    return result


class Scene:
    """``least``: more batches than this have begun before, so that some are finished."""

    def __init__(self, rig: Rig, batch_s: float) -> None:
        self.rig = rig
        self.batch_s = batch_s
        self.least = 1 if batch_s > FINISH_BELOW_S else 3
        self._begun = rig.folder / "begun"
        self._finished = rig.folder / "finished"

    def put(self) -> int:
        """Enough records for several batches."""
        self.rig.create(SHARDS)
        batches = min(MOST, max(FEWEST, int(WORK_S / self.batch_s)))
        self.rig.put((payload(n, ""), f"key-{n}") for n in range(batches * BATCH))
        return batches * BATCH

    def start(self) -> Worker:
        options = f'{{ batch_s = {self.batch_s}, begun = "{self._begun}", finished = "{self._finished}" }}'
        config = self.rig.config(
            model=f'factory = "tests.soak.model:Slow"\nversion = "soak-1"\nthreads = 1\noptions = {options}',
            kcl=f"shutdown_grace_s = {GRACE_S}",
            drain=f"longest_batch_s = {self.batch_s}\nbudget_s = {BUDGET_S}",
        )
        return self.rig.start(config, PENSTOCK_BATCH__MAX_RECORDS=str(BATCH))

    def begun(self) -> int:
        return len(self._begun.read_text()) if self._begun.exists() else 0

    def finished(self) -> set[int]:
        return {int(n) for n in self._finished.read_text().split()} if self._finished.exists() else set()

    def look(self, worker: Worker, result: Drain) -> None:
        """Check that everything finished is in the table and before a checkpoint, and that leases and the leader's lock
        are free."""
        ends, numbers = self._table()
        finished = self.finished()
        leases = self.rig.leases()
        result.finished, result.checkpointed = len(finished), len(numbers & finished)
        result.left_to_the_next = result.records - len(numbers)
        if result.exit_code:
            result.problems.append(f"exit code {result.exit_code}: {worker.log.read_text()[-300:]}")
        if result.leave_s >= BUDGET_S:
            result.problems.append(f"took {result.leave_s} s to leave, more than its budget of {BUDGET_S:g} s")
        if lacking := finished - numbers:
            result.problems.append(f"finished, and not in the table: {sorted(lacking)}")
        for shard_id, end in ends.items():
            if leases[shard_id].checkpoint != end:
                result.problems.append(
                    f"{shard_id}: checkpoint {leases[shard_id].checkpoint}, and its rows reach {end}"
                )
        if owned := [lease.shard_id for lease in leases.values() if lease.owner]:
            result.problems.append(f"leases that are not free: {', '.join(owned)}")
        if self._has_leader():
            result.problems.append("the leader's lock is not free")

    def finish(self, result: Drain) -> None:
        """A second worker does the rest; then every record is one row."""
        worker = self.start()
        self.rig.settle()
        if code := worker.leave():
            result.problems.append(f"the second worker left with {code}")
        self.rig.expect_each_once()

    def _table(self) -> tuple[dict[str, Position], set[int]]:
        """Where each shard's rows end, and the numbers of all rows."""
        ends: dict[str, Position] = {}
        numbers: set[int] = set()
        columns = ["shard_id", "sequence_number", "sub_sequence_number", "n"]
        for file in self.rig.table.rglob("*.parquet"):
            for row in pq.ParquetFile(file).read(columns).to_pylist():
                position = Position(int(row["sequence_number"]), row["sub_sequence_number"])
                ends[row["shard_id"]] = max(position, ends.get(row["shard_id"], position))
                numbers.add(row["n"])
        report = audit(FolderStore(self.rig.table), FolderStore(self.rig.folder / "dead-letter"))
        assert report.problems == []
        return ends, numbers

    def _has_leader(self) -> bool:
        try:
            item = self.rig.dynamodb.get_item(
                TableName=f"{self.rig.name}-CoordinatorState", Key={"key": {"S": "Leader"}}, ConsistentRead=True
            )
        except ClientError:
            return False
        return "Item" in item
