"""The storm: two workers, a producer, and every fault; then quiet until all is durable; then the check."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from consumer.local.process import LocalAWS
from pipeline.stores.base import ObjectStore
from pipeline.stores.s3 import S3Store
from tests.chaos import expected, output
from tests.chaos.checks import Verdict, judge
from tests.chaos.faults import Performer
from tests.chaos.producer import Mixer, Producer
from tests.chaos.schedule import Act
from tests.chaos.workers import Crew, End, left_behind
from tests.e2e.rig import Rig, wait_until

WORKERS, SHARDS = 2, 3
PER_S = 30.0
FIRST_S = 120
CALM_S = 900
"""Seconds for everything to become durable after the storm. A dead leader's lock alone may last 120 s, and a shard over
which tasks have died is read in small pieces, including the largest aggregates."""

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Weather:
    """``downstream``: the records also go to a second stream, which is at-least-once. ``giants``: size of the largest
    aggregates as a share of their full size; 0: none. ``timeout_s``: the model's time-out; each record that hangs costs
    several, and a start of a replica each time. ``failover_ms``: KCL's."""

    acts: Sequence[Act]
    seconds: float
    seed: int = 0
    per_s: float = PER_S
    downstream: bool = False
    giants: float = 0.0
    timeout_s: float = 5.0
    failover_ms: int = 10_000


@dataclass(slots=True)
class Outcome:
    """What was done, and what became of the records. The run has passed if ``problems`` is empty."""

    seed: int
    storm_s: float = 0.0
    calm_s: float = 0.0
    longest_idle_s: float = 0.0
    acts: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    workers: int = 0
    exits: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    answered: int = 0
    put: int = 0
    rows: int = 0
    keyless: int = 0
    files: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    wronged: int = 0
    downstream: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def storm(aws: LocalAWS, name: str, folder: Path, weather: Weather, show: Show = lambda text: None) -> Outcome:
    """Run it, and check the result. :raises AssertionError: there is nothing to check."""
    site = Site(aws, name, folder, downstream=weather.downstream)
    crew = Crew(site.rig, site.config(weather), WORKERS)
    mixer = Mixer(weather.seed)
    giants = mixer.giants(weather.giants, weather.seconds) if weather.giants else []
    producer = Producer(site.patient("kinesis"), name, mixer, weather.per_s, giants)
    outcome = Outcome(weather.seed)
    try:
        show("waiting for the first record")
        crew.start()
        producer.start()
        wait_until(lambda: crew.durable, FIRST_S, "the first durable record")
        performer = Performer(site.rig, crew, producer)
        performer.perform(weather.acts, weather.seconds, lambda act: show(_line(act, performer, crew, producer)))
        outcome.storm_s = round(performer.seconds, 1)
        show("calm: waiting until all is durable")
        real = _calm(site, crew, producer, outcome)
        show("leaving")
        last = crew.dismiss()
    finally:
        _clear(site, crew, producer)
    show("counting")
    _tell_of_workers(outcome, performer, crew, last, aws)
    _count(outcome, site, real, producer)
    return outcome


class Site:
    """The surroundings: a stream, a bucket, a configuration, and clients that are not affected by faults."""

    def __init__(self, aws: LocalAWS, name: str, folder: Path, *, downstream: bool) -> None:
        self.rig = Rig(aws, name, folder)
        self.name = name
        self._aws = aws
        self.s3 = aws.client("s3")
        self.s3.create_bucket(Bucket=name)
        self.rig.create(SHARDS)
        self.downstream = f"{name}-out" if downstream else ""
        if downstream:
            self.rig.kinesis.create_stream(StreamName=self.downstream, ShardCount=1)

    def patient(self, service: str) -> Any:
        config = Config(read_timeout=15, retries={"mode": "standard", "max_attempts": 3})
        return self._aws.client(service, config=config)

    def store(self, prefix: str) -> ObjectStore:
        return S3Store(self.s3, self.name, prefix)

    def config(self, weather: Weather) -> Path:
        """The configuration, with short waits, so that a storm of minutes meets many of them.

        The grace also decides how long KCL waits for a handoff: the grace and 10 s. A handoff of a shard that still
        waits for its parent hangs for all of that time (KCL 3.1.3).
        """
        downstream = f'[[sink]]\ntype = "kinesis"\nstream = "{self.downstream}"' if self.downstream else ""
        path = self.rig.folder / "penstock.toml"
        path.write_text(f"""\
[stream]
name = "{self.name}"
application = "{self.name}"

[model]
factory = "tests.chaos.model:Fragile"
version = "chaos-1"
threads = 1
timeout_s = {weather.timeout_s}
options = {{ record_s = 0.01 }}

[batch]
max_records = 16

[in_flight]
records_per_shard = 400

[[sink]]
type = "parquet"
url = "s3://{self.name}/enriched"
flush_interval_s = 2

{downstream}

[dead_letter]
url = "s3://{self.name}/dead-letter"

[kcl]
failover_ms = {weather.failover_ms}
shutdown_grace_s = 20

[drain]
budget_s = 40

[health]
port = 0

[log]
format = "json"
""")
        return path


def _line(act: str, performer: Performer, crew: Crew, producer: Producer) -> str:
    return (
        f"{performer.seconds:.0f} s · {performer.done.total() + 1} acts · {crew.started} workers · "
        f"{len(producer.answered.records)} put · {crew.durable} durable · {act}"
    )


def _calm(site: Site, crew: Crew, producer: Producer, outcome: Outcome) -> expected.Truth:
    """Wait until everything on the stream is durable, and return it."""
    began = time.monotonic()
    producer.end()
    real = expected.read(site.rig.kinesis, site.name)
    site.rig.ends = dict(real.ends)
    try:
        wait_until(lambda: _durable(site.rig), CALM_S, "every shard checkpointed to its last record")
    except AssertionError:
        stuck = {shard: str(lease) for shard, lease in site.rig.leases().items() if not lease.ended}
        outcome.problems.append(f"stuck: not all durable {CALM_S} s after the storm: {stuck}")
    outcome.calm_s = round(time.monotonic() - began, 1)
    return real


def _durable(rig: Rig) -> bool:
    """Whether every lease has reached the end of its shard, and every open shard has a lease.

    KCL deletes the leases of shards that were read to their end minutes ago, and creates the lease of a child before
    the end of its parent. So a closed shard without a lease is either done, or follows a shard whose lease has not
    reached its end.
    """
    try:
        found = rig.leases()
        shards = [
            shard["ShardId"] for shard in rig.shards() if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
    except (ClientError, BotoCoreError):
        return False
    return all(shard in found for shard in shards) and all(
        lease.ended or shard not in rig.ends or (lease.checkpoint and lease.checkpoint.end_of_record >= rig.ends[shard])
        for shard, lease in found.items()
    )


def _clear(site: Site, crew: Crew, producer: Producer) -> None:
    """End all processes, whatever has happened."""
    if producer.is_alive():
        producer.end(deadline_s=5)
    for worker in site.rig.workers:
        crew.thaw(worker)
    if crew.is_alive():
        crew.dismiss()
    site.rig.clean()


def _tell_of_workers(outcome: Outcome, performer: Performer, crew: Crew, last: Sequence[End], aws: LocalAWS) -> None:
    outcome.acts = dict(sorted(performer.done.items()))
    outcome.missed = dict(sorted(performer.missed.items()))
    outcome.workers = crew.started
    outcome.longest_idle_s = round(crew.longest_idle_s, 1)
    outcome.exits = {str(code): times for code, times in sorted(Counter(end.code for end in crew.ends).items())}
    for end in last:
        if end.code != 0:
            outcome.problems.append(f"left with {end.code} after the storm: {end.reason} ({end.log.name})")
    outcome.problems += [f"outlived its host: {process}" for process in performer.outlived]
    outcome.problems += [f"left behind: {process}" for process in left_behind(aws.endpoint, (aws.pid, os.getpid()))]


def _count(outcome: Outcome, site: Site, real: expected.Truth, producer: Producer) -> None:
    """Compare the table and the dead letters with the stream, and the stream with what the producer was told."""
    store, letters = site.store("enriched"), site.store("dead-letter")
    found = output.rows(store)
    verdict = judge(real, found, output.dead_letters(letters))
    outcome.files, said = output.audited(store, letters, site.rig.kinesis, site.name)
    outcome.problems += [*verdict.problems(), *said]
    outcome.problems += [f"answered, and not on the stream: {one}" for one in real.missing(producer.answered.records)]
    outcome.shards, outcome.answered = real.shards, len(producer.answered.records)
    _copy(verdict, outcome)
    if site.downstream:
        _downstream(outcome, site, {row.record_id for row in found})


def _copy(verdict: Verdict, outcome: Outcome) -> None:
    outcome.put, outcome.rows, outcome.dead_letters = verdict.put, verdict.rows, verdict.dead_letters
    outcome.keyless = verdict.keyless
    outcome.lost, outcome.doubled = len(verdict.lost), len(verdict.doubled)
    outcome.out_of_order, outcome.wronged = len(verdict.out_of_order), len(verdict.wronged)


def _downstream(outcome: Outcome, site: Site, ids: set[str]) -> None:
    """Check that the second stream has every row at least once, and nothing else."""
    sent = expected.read(site.rig.kinesis, site.downstream).payloads.values()
    got = Counter(str(json.loads(data)["record_id"]) for data in sent)
    outcome.downstream = {"records": got.total(), "repeated": got.total() - len(got)}
    for what, wrong in {"not downstream": ids - got.keys(), "downstream alone": got.keys() - ids}.items():
        if wrong:
            outcome.problems.append(f"{len(wrong)} {what}: {', '.join(sorted(wrong)[:3])}")
