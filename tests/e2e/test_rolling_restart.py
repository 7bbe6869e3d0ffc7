"""Two workers are replaced one after the other under load, as ECS replaces a service: no shard is left unread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tests.e2e.pairs import SHARDS, clock_config, longest_gaps, now_s, owned, share
from tests.e2e.rig import UP_S, Rig, Worker, wait_until

UNREAD_S = 20.0
LEFT_S = 3.0


def test_a_rolling_restart_leaves_no_shard_unread(rig: Rig, measured: Callable[[str, float], None]) -> None:
    rig.create(SHARDS)
    config = clock_config(rig)
    old = rig.start(config), rig.start(config)
    with rig.flowing(per_second=20):
        share(rig, *old)
        began_s = now_s()
        new = [replaced(rig, worker, rig.start(config)) for worker in old]
        wait_until(lambda: owned(rig) == {worker.id for worker in new}, UP_S, "leases spread over the new workers")
    for worker in old:
        measured("a worker stops: time from its last drained shard to the exit of the JVM", leaving_s(worker))
    rig.settle()
    gaps = longest_gaps(rig.expect_each_once(), began_s)
    measured("two workers are replaced under load: the longest that any shard is unread", float(gaps.max().max()))
    assert len(gaps) == SHARDS
    assert gaps.max().max() < UNREAD_S
    assert new[0].leave() == 0
    rig.put((b'{"text": "%d for the one that is left"}' % number, f"{number}") for number in range(40))
    rig.settle()
    assert new[1].leave() == 0
    rig.expect_each_once()
    assert rig.leader() == ""
    assert all(not lease.owner for lease in rig.leases().values())


def replaced(rig: Rig, old: Worker, new: Worker) -> Worker:
    """The new worker runs before the old one is asked to leave, and the old one leaves no process behind."""
    wait_until(lambda: new.id, UP_S, "the new worker consumes")
    assert old.leave() == 0
    assert leaving_s(old) < LEFT_S
    assert old.id not in owned(rig) | {rig.leader()}
    return new


def leaving_s(worker: Worker) -> float:
    """Seconds from the last drained shard to the end of the JVM, from the worker's log."""
    entries = worker.entries()
    drained = max(entry["ts"] for entry in entries if " drained " in entry["msg"])
    ended = next(entry["ts"] for entry in entries if entry["msg"].startswith("the JVM ended"))
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(drained)).total_seconds()
