"""A bad release beside a good one, as a canary: what stops it, and that nothing is lost.

A release that fails on some records is stopped by an alarm, and its dead letters become rows; one that fails on every
record ends before it has eaten the stream.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from consumer.cli import main
from consumer.stats_line import StatsLines
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import UP_S, Rig, Worker, wait_until
from tests.support.alarms import evaluated
from tests.support.cloudformation import TEMPLATE, Stack

SHARDS = 2
BAD = 1500
LIMIT = 300
FORGETFUL = 'factory = "tests.e2e.models:Forgetful"\nversion = "2"\nthreads = 1'
MISSPELT = 'factory = "tests.e2e.models:Misspelt"\nversion = "3"\nthreads = 1'
SOON = "failover_ms = 4000"
LETTERS = f"max_consecutive = {LIMIT}"


def a_bad_canary_is_rolled_back(rig: Rig, service: Worker) -> None:
    canary = rig.start(rig.config(model=FORGETFUL, kcl=SOON))
    with rig.flowing(per_second=20):
        wait_until(lambda: shares(rig) == {service.id, canary.id}, 120, "the canary has a share of the shards")
        wait_until(Alarm(canary), 60, "the dead-letter rate of the canary alarms")
        assert service.stats()["dead_letters"] == 0
        assert canary.leave() == 0
        rig.workers.remove(canary)
        wait_until(lambda: shares(rig) == {service.id}, UP_S, "the old release has every shard again")
    rig.settle()
    letters = rig.dead_letters()
    assert {letter["model_version"] for letter in letters} == {"2"}
    rows = rig.rows()
    assert set(rows["model_version"]) == {"1", "2"}
    assert sorted([*rows["record_id"], *(letter["record_id"] for letter in letters)]) == sorted(rig.put_ids)


def its_dead_letters_become_rows(rig: Rig, good: Path) -> None:
    letters = rig.dead_letters()
    words = ["dead-letters", "redrive", "--config", str(good), "--kind", "exception", "--execute", "--json"]
    redriven = CliRunner().invoke(main, words)
    assert redriven.exit_code == 0, redriven.output
    assert json.loads(redriven.stdout)["executed"] is True
    texts = dict(zip(rig.expect_each_once()["record_id"], rig.rows()["said"], strict=True))
    assert all(texts[letter["record_id"]] for letter in letters)


def one_that_fails_on_everything_ends_itself(rig: Rig) -> None:
    """The last guard: the limit of dead letters."""
    before = {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()}
    letters = len(rig.dead_letters())
    put(rig, BAD)
    bad = rig.start(rig.config(model=MISSPELT, dead_letter=LETTERS, kcl=SOON))
    assert bad.process.wait(120) == 1, bad.log.read_text()[-4000:]
    [error] = [entry for entry in bad.entries() if entry["level"] == "ERROR"]
    assert "dead_letter.max_consecutive" in error["msg"] and "\n" not in error["msg"]
    assert "exception (KeyError at models.py:" in error["msg"] and f"such as {rig.name}/shardId-" in error["msg"]
    told = [entry["msg"] for entry in bad.entries() if "dead letter: " in str(entry["msg"])]
    assert len(told) == 1 and "KeyError at models.py:" in told[0] and "txet" not in told[0]
    assert {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()} == before
    assert len(rig.dead_letters()) == letters
    rig.workers.remove(bad)


def the_good_one_goes_on(rig: Rig, good: Path) -> Worker:
    service = rig.start(good)
    rig.settle()
    rig.expect_each_once()
    report = audit(FolderStore(rig.table), FolderStore(rig.folder / "dead-letter"))
    assert report.problems == []
    return service


class Alarm:
    """The template's alarm of the canary's dead-letter rate: its expression, threshold and period.

    CloudWatch gets a line of figures each minute, and its periods begin at fixed times. Here ``/stats`` is read at each
    call, and the period is the time before the call, so it fires sooner. Metric filter and CloudWatch are not run.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lines = StatsLines()
        given = {"Application": "a", "ImageTag": "1", "StreamName": "s"}
        canary = Stack(given, TEMPLATE.with_name("canary.yaml"), beside=Stack(given))
        alarm = canary.resource("DeadLetterRateAlarm")["Properties"]
        assert alarm["DatapointsToAlarm"] == 1, "one period is enough"
        [self._expression] = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        [self._period_s] = {each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each}
        self._percent = alarm["Threshold"]
        self._seen: list[tuple[float, dict[str, Any]]] = []

    def __call__(self) -> bool:
        now = time.monotonic()
        self._seen.append((now, self._lines.next(self._worker.stats())))
        self._seen = [(at, line) for at, line in self._seen if at > now - self._period_s]
        dead, rows = (sum(line[name] for _, line in self._seen) for name in ("dead_letters", "rows"))
        if not dead + rows:  # CloudWatch has no result for a division by 0
            return False
        percent = evaluated(self._expression, {"dead": dead, "rows": rows})
        return percent is not None and percent > self._percent


def put(rig: Rig, count: int) -> None:
    rig.put((json.dumps({"text": f"{number}"}).encode(), f"{number}") for number in range(count))


def shares(rig: Rig) -> set[str]:
    """The owners of all shards; empty while a shard has none."""
    owners = rig.owners()
    return set(owners.values()) if len(owners) == SHARDS else set()
