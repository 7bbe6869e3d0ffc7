"""Workers leave and are killed while records flow: nothing is lost or duplicated."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from consumer.testing.aggregates import aggregate
from examples.demo.corpus import records
from pipeline.record import Position
from tests.e2e.rig import UP_S, Rig, Worker, wait_until

FIRST_RECORD_S = 20
PART = 150
AGGREGATED = 5_000
LOADING = 'factory = "tests.e2e.models:Loading"\nversion = "test-1"\nthreads = 1'


def test_a_worker_that_leaves_frees_its_leases_and_the_next_continues_inside_an_aggregate(rig: Rig) -> None:
    """KCL's checkpoint is before the aggregate; the rows that the first worker has made of it are in the table all the
    same."""
    rig.create(shards=2)
    config = rig.config(model='factory = "tests.e2e.models:Steady"\nversion = "test-1"\nthreads = 1')
    first = rig.start(config)
    parts = records(2 * PART, seed=3)
    rig.put(parts[:PART])
    put_aggregate(rig)
    rig.enriched(PART + AGGREGATED // 8)
    assert first.leave() == 0
    done = len(rig.rows())
    assert AGGREGATED // 8 < done < PART + AGGREGATED
    assert all(not lease.owner for lease in rig.leases().values())
    rig.put(parts[PART:])
    second = rig.start(config)
    rig.enriched(1, deadline_s=FIRST_RECORD_S)
    rig.settle()
    assert done + int(second.stats()["enriched"]) == len(rig.put_ids) == 2 * PART + AGGREGATED
    assert second.leave() == 0
    rig.expect_each_once()


def put_aggregate(rig: Rig) -> None:
    """One Kinesis record that takes seconds of work."""
    data = aggregate(b'{"text": "%d of an aggregate"}' % number for number in range(AGGREGATED))
    answer = rig.kinesis.put_record(StreamName=rig.name, Data=data, PartitionKey="key")
    shard, sequence = answer["ShardId"], answer["SequenceNumber"]
    rig.ends[shard] = Position(int(sequence), 0)
    rig.put_ids.update(f"{rig.name}/{shard}/{sequence}/{sub}" for sub in range(AGGREGATED))


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


@pytest.mark.parametrize("kills", [(kill_replica, kill_jvm), (kill_bridge, kill_host)])
def test_kills_in_mid_flow_lose_and_double_nothing(rig: Rig, kills: tuple[Callable[[Worker], None], ...]) -> None:
    rig.create(shards=2)
    worker = rig.start()
    parts = records((len(kills) + 1) * PART, seed=4)
    for number, kill in enumerate(kills):
        before = rig.total("enriched")
        rig.put(parts[number * PART : (number + 1) * PART])
        rig.enriched(before + PART // 4)
        kill(worker)
        if worker.process.poll() is not None:
            if kill is kill_host:
                rig.forget_leader()
            else:
                assert not rig.owners()
            worker = rig.start()
    rig.put(parts[len(kills) * PART :])
    rig.settle()
    assert worker.leave() == 0
    rig.expect_each_once()


def test_a_worker_that_is_asked_to_leave_while_the_model_loads_leaves_at_once(rig: Rig) -> None:
    rig.create(shards=1)
    worker = rig.start(rig.config(model=LOADING))
    wait_until(lambda: worker.tree()["replica"], UP_S, "a replica")
    started = worker.tree()["replica"]
    assert worker.leave(deadline_s=10) == 0
    assert not any(child.is_running() for child in started)
    assert "asked to leave before the first lease was taken" in worker.log.read_text()


def test_nothing_is_left_running_after_a_worker_leaves(rig: Rig) -> None:
    rig.create(shards=1)
    worker = rig.start()
    rig.put(records(20, seed=5))
    rig.enriched(20)
    left = [child for kind in worker.tree().values() for child in kind]
    assert len(left) >= 3
    os.kill(worker.process.pid, signal.SIGINT)
    assert worker.process.wait(60) == 0
    wait_until(lambda: not any(child.is_running() for child in left), 10, "every child gone")
    assert rig.all_durable()
    assert len(rig.rows()) == 20
