"""Long stalls with the real KCL: leases are kept, memory does not grow, and everything drains after the stall."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from consumer.leases.leases import Lease
from consumer.local.process import LocalAWS
from pipeline.stores.s3 import S3Store
from tests.chaos import expected, output
from tests.chaos.checks import judge
from tests.chaos.producer import Mixer, Producer
from tests.e2e.rig import Rig, Worker, wait_until

SHARDS = 2
IN_FLIGHT_MIB = 16
BURST, BURST_BYTES = 3_000, 8 * 1024
"""Number of records put at once, so that the task is full from the start of the stall."""

PER_S = 4.0
SAMPLE_S = 5.0
FULL_S = 120
RENEWED_S = 30.0
"""Seconds within which the counter of a lease that is kept has changed; KCL changes it every 3.3 s."""

SETTLE_S = 20.0
"""Seconds from the start of the stall until the task is full."""

GROWTH_MIB = 48.0
"""MiB by which a full host may grow, for any duration of the stall: memory that an allocator keeps."""

DRAIN_S = 600


@dataclass(slots=True)
class Stalled:
    """``growth_mib``: growth of the host from when it was full to its maximum afterwards. The run has passed if
    ``problems`` is empty."""

    stalled_s: float
    put: int = 0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    full_mib: float = 0.0
    growth_mib: float = 0.0
    samples: int = 0
    renewals: int = 0
    lease_losses: int = 0
    unwell: int = 0
    checkpoints_moved: int = 0
    drained_s: float = 0.0
    problems: list[str] = field(default_factory=list)


Show = Callable[[str], None]
Stall = Callable[[float], None]
"""Called with the share of the time that is over, from 0 to 1; finally once with 1 or more, when the stall must end."""


def stalled_sink(aws: LocalAWS, folder: Path, seconds: float, show: Show) -> Stalled:
    """S3 answers every PUT with 503 for half of the time, and does not answer PUTs for the other half."""
    faults = [{"kind": "throttle"}, {"kind": "stall"}]

    def stall(share: float) -> None:
        now = faults[int(share * len(faults))] if share < 1 else None
        if [fault["kind"] for fault in aws.list_faults()] != ([now["kind"]] if now else []):
            aws.clear_faults()
            if now:
                aws.add_fault(service="s3", operation="PutObject", **now)

    model = 'factory = "tests.chaos.model:Fragile"\npassthrough = { text = "string" }\ntimeout_s = 5'
    return Scene(aws, "stalled-sink", folder, model, stuck_after_s=30).run(seconds, stall, show)


def hanging_model(aws: LocalAWS, folder: Path, seconds: float, show: Show) -> Stalled:
    """The model does not return from one ``predict``."""
    file = folder / "hang"

    def stall(share: float) -> None:
        if share < 1:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    timeout_s = seconds + DRAIN_S
    model = f'factory = "tests.chaos.model:Hanging"\ntimeout_s = {timeout_s}\noptions = {{ while = "{file}" }}'
    return Scene(aws, "hanging-model", folder, model, stuck_after_s=timeout_s + 1).run(seconds, stall, show)


class Scene:
    """A stream, a bucket and one worker."""

    def __init__(self, aws: LocalAWS, name: str, folder: Path, model: str, stuck_after_s: float) -> None:
        self.rig = Rig(aws, name, folder)
        self.name = name
        self.s3 = aws.client("s3")
        self.s3.create_bucket(Bucket=name)
        self.rig.create(SHARDS)
        self.config = self.rig.config(
            model=f'version = "chaos-1"\nthreads = 1\n{model}',
            in_flight=f"total_mib = {IN_FLIGHT_MIB}",
            health=f"stuck_after_s = {stuck_after_s}",
            sinks=f'[[sink]]\ntype = "parquet"\nurl = "s3://{name}/enriched"\nflush_interval_s = 2\nflush_mib = 4',
        )

    def run(self, seconds: float, stall: Stall, show: Show) -> Stalled:
        """:raises AssertionError: the stall does not begin."""
        result = Stalled(seconds)
        producer = Producer(self.rig.kinesis, self.name, Mixer(0, poisoned=False), PER_S)
        try:
            show("waiting for the first record")
            worker = self.rig.start(self.config)
            self.rig.put(large(0, 1))
            wait_until(lambda: worker.stats()["durable"], FULL_S, "the first record is durable")
            stall(0)
            producer.start()
            self.rig.put(large(1, BURST))
            full = IN_FLIGHT_MIB * 2**20
            wait_until(lambda: worker.stats()["in_flight_bytes"] >= full, FULL_S, "the task is full")
            time.sleep(SETTLE_S)  # what was under way when the stall began comes to its end
            Watch(self.rig, worker, result).until(seconds, stall, show)
            stall(1)
            self._drain(worker, producer, result, show)
        finally:
            stall(1)
            if producer.is_alive():
                producer.end()
            self.rig.clean()
        return result

    def _drain(self, worker: Worker, producer: Producer, result: Stalled, show: Show) -> None:
        show("draining")
        began = time.monotonic()
        producer.end()
        real = expected.read(self.rig.kinesis, self.name)
        self.rig.ends = dict(real.ends)
        try:
            wait_until(self.rig.all_durable, DRAIN_S, "all that was put is durable")
        except AssertionError as error:
            result.problems.append(str(error))
        result.drained_s = round(time.monotonic() - began, 1)
        if code := worker.leave():
            result.problems.append(f"left with {code}")
        show("counting")
        self._count(real, result)

    def _count(self, real: expected.Truth, result: Stalled) -> None:
        store = S3Store(self.s3, self.name, "enriched")
        verdict = judge(real, output.rows(store), [])
        _, said = output.audited(store, S3Store(self.s3, self.name, "dead-letter"), self.rig.kinesis, self.name)
        result.put, result.rows = verdict.put, verdict.rows
        result.lost, result.doubled = len(verdict.lost), len(verdict.doubled)
        result.out_of_order = len(verdict.out_of_order)
        result.problems += [*verdict.problems(), *said]


class Watch:
    """Checks every few seconds what must not change while a sink or a model stalls."""

    def __init__(self, rig: Rig, worker: Worker, result: Stalled) -> None:
        self._rig = rig
        self._worker = worker
        self._result = result
        self._process = psutil.Process(worker.process.pid)
        self._first = rig.leases()
        self._last = self._first
        self._renewed_s = dict.fromkeys(self._first, time.monotonic())
        result.full_mib = self._mib()

    def until(self, seconds: float, stall: Stall, show: Show) -> None:
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < seconds:
            stall(passed_s / seconds)
            self._look()
            show(f"{passed_s:.0f} s of {seconds:.0f} s; {self._result.growth_mib:+.0f} MiB")
            time.sleep(min(SAMPLE_S, seconds))  # between two looks
        result = self._result
        if result.growth_mib > GROWTH_MIB:
            result.problems.append(f"the full host grew by {result.growth_mib:.0f} MiB, more than {GROWTH_MIB:.0f}")
        if result.lease_losses:
            result.problems.append(f"leases were lost {result.lease_losses} times")
        if result.checkpoints_moved:
            result.problems.append(f"checkpoints moved {result.checkpoints_moved} times, though nothing was durable")

    def _look(self) -> None:
        result, now = self._result, time.monotonic()
        result.samples += 1
        result.growth_mib = round(max(result.growth_mib, self._mib() - result.full_mib), 1)
        result.unwell += self._worker.get("/healthz")[0] != 200
        leases = self._rig.leases()
        for shard_id, lease in leases.items():
            self._compare(shard_id, lease, now)
        self._last = leases

    def _compare(self, shard_id: str, lease: Lease, now: float) -> None:
        before = self._last[shard_id]
        self._result.lease_losses += lease.owner != before.owner
        self._result.checkpoints_moved += lease.checkpoint != before.checkpoint
        if lease.counter > before.counter:
            self._result.renewals += lease.counter - before.counter
            self._renewed_s[shard_id] = now
        elif now - self._renewed_s[shard_id] > RENEWED_S:
            self._result.problems.append(f"{shard_id}: its lease was not renewed for {RENEWED_S:.0f} s")
            self._renewed_s[shard_id] = now

    def _mib(self) -> float:
        return round(float(self._process.memory_info().rss) / 2**20, 1)


def large(first: int, count: int) -> Iterator[tuple[bytes, str]]:
    """Healthy records of a certain size, on all shards."""
    for n in range(first, first + count):
        yield json.dumps({"n": n, "do": "", "text": f"{n} {'x' * BURST_BYTES}"}).encode(), f"key-{n}"
