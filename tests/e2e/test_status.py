"""``penstock status --watch`` with real workers: it names each fault within two refreshes, also the death of the
leader."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

from click.testing import CliRunner

from consumer.admin.status.reasons import IDLE_S, STUCK_S
from consumer.cli import main
from consumer.leases.worker_notes import PREFIX
from tests.e2e.pairs import SHARDS, share
from tests.e2e.rig import PENSTOCK, ROOT, UP_S, Rig, Worker, wait_until

REFRESHES = 2
"""After a fault can be seen from outside, the command names it within this many looks."""


class Watching:
    """A running ``penstock status --watch --json``, and its output."""

    def __init__(self, rig: Rig, config: str) -> None:
        command = [*PENSTOCK, "status", "--config", config, "--watch", "--every", "1s", "--json"]
        self.looks: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **rig.aws.env}, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.looks.append(json.loads(line))

    def next(self, count: int) -> list[dict[str, Any]]:
        """Return this many looks that begin after this call."""
        seen = len(self.looks)
        wait_until(lambda: len(self.looks) > seen + count, 60, f"{count} more looks")
        return self.looks[seen + 1 : seen + 1 + count]

    def sees(self, kind: str, shards: list[str] | None = None) -> dict[str, Any]:
        """The reason of this kind for one of ``shards``, within :data:`REFRESHES` looks."""
        looks = self.next(REFRESHES)
        found = [
            shard
            for look in looks
            for shard in look["shards"]
            if shard["why"] and shard["why"]["kind"] == kind and (shards is None or shard["shard_id"] in shards)
        ]
        assert found, [(shard["shard_id"], shard["why"]) for look in looks for shard in look["shards"]]
        why: dict[str, Any] = found[0]["why"]
        return why

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._reader.join(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def watching(rig: Rig, config: str) -> Iterator[Watching]:
    looks = Watching(rig, config)
    try:
        yield looks
    finally:
        looks.close()


def says(worker: Worker, test: Callable[[dict[str, Any]], Any]) -> Callable[[], bool]:
    return lambda: bool(test(dict(worker.stats())))


def text(*said: str) -> list[tuple[bytes, str | None]]:
    return [(json.dumps({"text": each}).encode(), each) for each in said]


def test_each_fault_is_named_within_two_refreshes(rig: Rig) -> None:
    rig.aws.client("s3").create_bucket(Bucket=rig.name)
    rig.create(SHARDS)
    config = rig.config(
        model='factory = "tests.e2e.models:Moody"\nversion = "test-1"\nthreads = 1\ntimeout_s = 60',
        sinks=f'[[sink]]\ntype = "parquet"\nurl = "s3://{rig.name}/enriched"\nflush_interval_s = 1',
        kcl="failover_ms = 5000",
    )
    with rig.flowing(per_second=20):
        pair = share(rig, rig.start(config), rig.start(config))
        with watching(rig, str(config)) as looks:
            all_is_well(looks, pair.leader, pair.follower)
            a_refused_sink(rig, looks, pair.follower)
    with watching(rig, str(config)) as looks:
        a_stuck_model(rig, looks, pair.leader, pair.follower)
        a_bad_record(rig, looks, pair.leader, pair.follower)
        no_new_records(looks, pair.leader, pair.follower)
        a_released_lease(rig, str(config))
        a_dead_leader(rig, looks, pair.leader, pair.follower)
    assert pair.follower.leave() == 0
    assert notes(rig) == {pair.leader.id}, "a worker that leaves takes its note along"


def all_is_well(looks: Watching, leader: Worker, follower: Worker) -> None:
    def well() -> bool:
        (look,) = looks.next(1)
        shards, totals = look["shards"], look["totals"]
        asked = all(worker["source"] == "page" for worker in look["workers"])
        moving = totals["standing_still"] == 0 and all(shard["rate"] for shard in shards)
        return asked and moving and len(shards) == SHARDS and totals["behind_s"] is not None

    wait_until(well, UP_S, "every shard gets on, at a known rate")
    look = looks.looks[-1]
    assert look["schema"] == "penstock.status/1"
    assert {worker["worker"] for worker in look["workers"]} == {leader.id, follower.id}
    assert [worker["worker"] for worker in look["workers"] if worker["leader"]] == [leader.id]


def a_refused_sink(rig: Rig, looks: Watching, worker: Worker) -> None:
    with rig.aws.faults(service="s3", operation="PutObject", kind="error", status=403, code="AccessDenied"):
        wait_until(says(worker, lambda stats: stats["outages"]), 30, "the worker is refused")
        why = looks.sees("sink_refused")
        assert "the sink is refused: " in why["text"] and "AccessDenied" in why["text"]
    wait_until(says(worker, lambda stats: not stats["outages"]), 45, "the sink takes files again")


def a_stuck_model(rig: Rig, looks: Watching, *workers: Worker) -> None:
    rig.put(text("hang"))

    def hangs() -> bool:
        out = [batch for worker in workers for batch in worker.stats()["batches_out"] or ()]
        usual = max(float(worker.stats()["batch_p99_s"]) for worker in workers)
        return any(batch["age_s"] >= max(STUCK_S, 4 * usual) for batch in out)

    wait_until(hangs, 40, "a batch does not come back")
    assert looks.sees("model_stuck")["text"] == "the model is stuck: a batch does not return"
    wait_until(lambda: not any(worker.stats()["batches_out"] for worker in workers), 40, "it is back")


def a_bad_record(rig: Rig, looks: Watching, *workers: Worker) -> None:
    rig.put(text("bad", *(f"good {number}" for number in range(60))))

    def bisected() -> bool:
        return any(batch["tries"] for worker in workers for batch in worker.stats()["batches_out"] or ())

    wait_until(bisected, 30, "a batch is tried in parts")
    looks.sees("record_bisected")


def no_new_records(looks: Watching, *workers: Worker) -> None:
    def idle(stats: dict[str, Any]) -> bool:
        shards = stats["by_shard"].values()
        return all(shard["unsettled"] == 0 and shard.get("idle_s", 0) > IDLE_S for shard in shards)

    for worker in workers:
        wait_until(says(worker, idle), 40, "nothing has come for a while")
    why = looks.sees("no_new_records")
    assert why["since_s"] is not None


def a_released_lease(rig: Rig, config: str) -> None:
    """The prediction of the command comes true: the shard gets an owner within the time that it names."""
    (shard, *_) = rig.owners()
    before = rig.leases()[shard]
    words = ["leases", "release", shard, "--config", config, "--execute", "--json"]
    result = CliRunner().invoke(main, words, env=rig.aws.env)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["owner"], said["executed"]) == (before.owner, True)
    wait_until(lambda: rig.leases()[shard].owner, said["assigned_within_s"] + 20, "somebody has it again")
    taken = rig.leases()[shard]
    wait_until(lambda: rig.leases()[shard].counter > taken.counter, 20, "it is renewed")
    assert rig.leases()[shard].checkpoint == before.checkpoint


def a_dead_leader(rig: Rig, looks: Watching, leader: Worker, follower: Worker) -> None:
    held = [shard for shard, owner in rig.owners().items() if owner == leader.id]
    leader.kill()
    why = looks.sees("no_owner_leader_dead", held)
    assert why["text"] == f"no owner, leader {leader.id} dead"
    assert why["since_s"] is not None
    dead = next(worker for worker in looks.looks[-1]["workers"] if worker["worker"] == leader.id)
    assert (dead["alive"], dead["problems"]) == (False, ["dead"])

    def taken_over() -> bool:
        look = looks.next(1)[0]
        return {shard["owner"] for shard in look["shards"]} == {follower.id} and not look["totals"]["standing_still"]

    wait_until(taken_over, 60, "the follower has everything, and status says so")


def notes(rig: Rig) -> set[str]:
    items = rig.dynamodb.scan(TableName=f"{rig.name}-CoordinatorState")["Items"]
    return {item["key"]["S"].removeprefix(PREFIX) for item in items if item["key"]["S"].startswith(PREFIX)}
