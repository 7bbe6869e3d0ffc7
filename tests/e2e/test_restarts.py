"""One worker after the other on one stream. Their processes are killed in mid-flow, they leave inside an aggregate, and
by SIGINT: nothing is lost or duplicated, and nothing is left running."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from consumer.testing.aggregates import aggregate
from examples.demo.corpus import records
from pipeline.record import Position
from tests.e2e.rig import LEAVE_S, UP_S, Rig, Worker, wait_until

FIRST_RECORD_S = 20
PART = 300
FEW = 20
AGGREGATED = 1_000
LOADING = 'factory = "tests.e2e.models:Loading"\nversion = "test-1"\nthreads = 1'


def test_workers_that_are_killed_or_leave_lose_and_double_nothing(rig: Rig) -> None:
    rig.create(shards=2)
    config = rig.config(kcl="failover_ms = 4000")
    worker = rig.start(config)
    worker = killed_in_mid_flow(rig, worker, config, kill_replica)
    worker = killed_in_mid_flow(rig, worker, config, kill_bridge)
    worker = killed_in_mid_flow(rig, worker, config, kill_jvm)
    worker = killed_in_mid_flow(rig, worker, config, kill_host)
    done = leaves_inside_an_aggregate(rig, worker)
    worker = continues_inside_it(rig, config, done)
    leaves_nothing_running_after_sigint(rig, worker)
    rig.expect_each_once()


def killed_in_mid_flow(rig: Rig, worker: Worker, config: Path, kill: Callable[[Worker], None]) -> Worker:
    """Return the worker that goes on: the same one, or the next if the kill ends it."""
    before = rig.total("enriched")
    put(rig)
    rig.enriched(before + PART // 4)
    kill(worker)
    if worker.process.poll() is None:
        return worker
    if kill is kill_host:
        rig.forget_leader()
    else:
        assert not rig.owners(), f"{kill.__name__}: the leases are free"
    return rig.start(config)


def kill_replica(worker: Worker) -> None:
    for replica in worker.tree()["replica"]:
        replica.kill()


def kill_jvm(worker: Worker) -> None:
    worker.tree()["jvm"][0].kill()
    assert worker.process.wait(30) == 1
    assert "JVM" in worker.log.read_text()


def kill_bridge(worker: Worker) -> None:
    worker.tree()["bridge"][0].kill()
    assert worker.process.wait(30) == 1
    assert "ended by itself" in worker.log.read_text()


def kill_host(worker: Worker) -> None:
    worker.kill()


def leaves_inside_an_aggregate(rig: Rig, worker: Worker) -> int:
    """KCL's checkpoint is before the aggregate; the rows that the worker has made of it are in the table all the same.
    Return the number of all rows."""
    put(rig)
    rig.settle()
    before = len(rig.put_ids)
    enriched = rig.total("enriched")
    put_aggregate(rig)
    rig.enriched(enriched + AGGREGATED // 8)
    assert worker.leave() == 0
    done = len(rig.rows())
    assert before + AGGREGATED // 8 <= done < before + AGGREGATED, "the worker leaves inside the aggregate"
    assert all(not lease.owner for lease in rig.leases().values()), "a worker that leaves frees its leases"
    return done


def put_aggregate(rig: Rig) -> None:
    """One Kinesis record that takes seconds of work."""
    data = aggregate(b'{"text": "%d of an aggregate"}' % number for number in range(AGGREGATED))
    answer = rig.kinesis.put_record(StreamName=rig.name, Data=data, PartitionKey="key")
    shard, sequence = answer["ShardId"], answer["SequenceNumber"]
    rig.ends[shard] = Position(int(sequence), 0)
    rig.put_ids.update(f"{rig.name}/{shard}/{sequence}/{sub}" for sub in range(AGGREGATED))


def continues_inside_it(rig: Rig, config: Path, done: int) -> Worker:
    """The next worker soon has a first record, and enriches exactly those that have no row."""
    put(rig)
    worker = rig.start(config)
    rig.enriched(1, deadline_s=FIRST_RECORD_S)
    rig.settle()
    assert done + int(worker.stats()["enriched"]) == len(rig.put_ids)
    return worker


def leaves_nothing_running_after_sigint(rig: Rig, worker: Worker) -> None:
    left = [child for kind in worker.tree().values() for child in kind]
    assert len(left) >= 3
    before = rig.total("enriched")
    rig.put(records(FEW, seed=len(rig.put_ids)))
    rig.enriched(before + FEW)
    worker.signal(signal.SIGINT)
    assert worker.process.wait(LEAVE_S) == 0
    wait_until(lambda: not any(child.is_running() for child in left), 10, "every child gone")
    assert rig.all_durable()


def put(rig: Rig) -> None:
    rig.put(records(PART, seed=len(rig.put_ids)))


def test_a_worker_that_is_asked_to_leave_while_the_model_loads_leaves_at_once(rig: Rig) -> None:
    rig.create(shards=1)
    worker = rig.start(rig.config(model=LOADING))
    wait_until(lambda: worker.tree()["replica"], UP_S, "a replica")
    started = worker.tree()["replica"]
    assert worker.leave(deadline_s=10) == 0
    assert not any(child.is_running() for child in started)
    assert "told to leave (SIGTERM or Ctrl-C) before taking a lease" in worker.log.read_text()
