"""Carries out the acts of a storm: on processes, on the stream's shards, and on the answers of AWS."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from botocore.exceptions import ClientError

from tests.chaos.producer import Producer
from tests.chaos.schedule import Act
from tests.chaos.workers import Crew
from tests.e2e.rig import Rig

FEWEST_SHARDS, MOST_SHARDS = 2, 6
HALF_HASHES = 2
GONE_S = 15
"""Seconds within which the processes of a dead host have ended."""

Undo = Callable[[], object]


class Impossible(Exception):
    """There is no target for this act at the moment."""


class Performer:
    """Carries out acts when their time has come, and ends those that last. ``done`` and ``missed`` count
    them by name."""

    def __init__(self, rig: Rig, crew: Crew, producer: Producer) -> None:
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.outlived: list[str] = []
        self._rig = rig
        self._crew = crew
        self._producer = producer
        self._undo: list[tuple[float, int, Undo]] = []
        self._ids = itertools.count()
        self._began = time.monotonic()
        self._orphans: list[tuple[float, psutil.Process]] = []

    def perform(self, acts: Sequence[Act], until_s: float, show: Callable[[str], None]) -> None:
        """Carry out all acts, then wait for the end of the storm and end all that still last."""
        self._began = time.monotonic()
        try:
            for act in acts:
                self._wait(act.at_s)
                show(act.name)
                self._one(act)
            self._wait(until_s)
        finally:
            while self._undo:
                heapq.heappop(self._undo)[2]()
            self._rig.aws.clear_faults()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def _wait(self, at_s: float) -> None:
        """Wait until then, and end acts whose time is over."""
        while True:
            self._look_for_orphans()
            due_s = min(at_s, self._undo[0][0]) if self._undo else at_s
            time.sleep(max(0.0, min(due_s - self.seconds, 1.0)))  # acts have a time limit
            if self._undo and self._undo[0][0] <= self.seconds:
                heapq.heappop(self._undo)[2]()
            elif at_s <= self.seconds:
                return

    def _one(self, act: Act) -> None:
        dice = random.Random(act.dice)
        try:
            undo = self._fault(act) if act.rule else self._deed(act, dice)
        except (Impossible, psutil.NoSuchProcess, ClientError):
            self.missed[act.name] += 1
            return
        self.done[act.name] += 1
        if undo is not None:
            heapq.heappush(self._undo, (self.seconds + act.seconds, next(self._ids), undo))

    def _deed(self, act: Act, dice: random.Random) -> Undo | None:
        match act.name:
            case "SIGKILL of a host":
                self._kill_host(dice)
            case "SIGKILL of a JVM" | "SIGKILL of a bridge" | "SIGKILL of a replica":
                self._kill(act.name.rpartition(" ")[2].lower(), dice)
            case "SIGSTOP of a worker, then SIGCONT":
                worker = self._worker(dice)
                self._crew.freeze(worker)
                return lambda: self._crew.thaw(worker)
            case "SIGTERM of a worker":
                self._worker(dice).signal(signal.SIGTERM)
            case "SplitShard":
                self._split(dice)
            case "MergeShards":
                self._merge(dice)
            case "UpdateShardCount":
                self._reshard(dice)
            case "UpdateStreamRecordDistributionStrategy: AUTO, no keys":
                return self._without_keys()
            case _:
                raise ValueError(f"nobody knows how to do {act.name}")
        return None

    def _fault(self, act: Act) -> Undo:
        rule = contextlib.ExitStack()
        rule.enter_context(self._rig.aws.faults(**act.rule))
        return rule.close

    # -- processes

    def _worker(self, dice: random.Random) -> Any:
        if not (working := self._crew.working):
            raise Impossible
        return dice.choice(working)

    def _kill_host(self, dice: random.Random) -> None:
        """Check that the processes of the dead host end by themselves."""
        worker = self._worker(dice)
        children = [child for kind in worker.tree().values() for child in kind]
        worker.signal(signal.SIGKILL)
        self._orphans += [(self.seconds, child) for child in children]

    def _kill(self, kind: str, dice: random.Random) -> None:
        found = [child for worker in self._crew.working for child in worker.tree()[kind]]
        if not found:
            raise Impossible
        dice.choice(found).kill()

    def _look_for_orphans(self) -> None:
        self._orphans = [(at_s, orphan) for at_s, orphan in self._orphans if orphan.is_running()]
        for at_s, orphan in list(self._orphans):
            if at_s < self.seconds - GONE_S:
                self._orphans.remove((at_s, orphan))
                with contextlib.suppress(psutil.Error):
                    self.outlived.append(f"{orphan.pid} {orphan.status()} {' '.join(orphan.cmdline())[:120]}")

    # -- the stream

    def _without_keys(self) -> Undo:
        """Let Kinesis distribute records itself, so that producers may leave out keys."""
        self._spread("ON_DEMAND", "AUTO")
        self._producer.keyless = True
        return self._with_keys

    def _with_keys(self) -> None:
        """Change the stream back; puts that are refused meanwhile are repeated with their keys."""
        self._producer.keyless = False
        self._spread("PROVISIONED", "USER_PARTITION_KEY")

    def _spread(self, mode: str, strategy: str) -> None:
        kinesis, name = self._rig.kinesis, self._rig.name
        arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        changes: list[Undo] = [
            lambda: kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": mode}),
            lambda: kinesis.update_stream_record_distribution_strategy(
                StreamARN=arn, RecordDistributionStrategy=strategy
            ),
        ]
        for change in changes if strategy == "AUTO" else reversed(changes):
            change()
            self._rig.active()

    # -- shards

    def _open(self) -> list[Any]:
        """The open shards, in the order of their hash keys."""
        shards = [s for s in self._rig.shards() if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def _split(self, dice: random.Random) -> None:
        shards = self._open()
        if len(shards) >= MOST_SHARDS:
            raise Impossible
        shard = dice.choice(shards)
        hashes = shard["HashKeyRange"]
        middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // HALF_HASHES
        self._rig.kinesis.split_shard(
            StreamName=self._rig.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )
        self._rig.active()

    def _merge(self, dice: random.Random) -> None:
        shards = self._open()
        if len(shards) <= FEWEST_SHARDS:
            raise Impossible
        left, right = dice.choice(list(itertools.pairwise(shards)))
        self._rig.kinesis.merge_shards(
            StreamName=self._rig.name, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
        )
        self._rig.active()

    def _reshard(self, dice: random.Random) -> None:
        counts = {*range(FEWEST_SHARDS, MOST_SHARDS + 1)} - {len(self._open())}
        self._rig.kinesis.update_shard_count(
            StreamName=self._rig.name, TargetShardCount=dice.choice(sorted(counts)), ScalingType="UNIFORM_SCALING"
        )
        self._rig.active()
