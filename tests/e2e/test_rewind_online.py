"""An application is moved back while its workers run, across a reshard: each record from the target on
comes once more."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from consumer.cli import main
from tests.e2e.rig import Rig, wait_until

ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1'
SOON_S = 150


def test_an_application_is_moved_back_while_it_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rig.aws.env.items():
        monkeypatch.setenv(name, value)
    rig.create(shards=2)
    downstream = f"{rig.name}-rows"
    rig.kinesis.create_stream(StreamName=downstream, ShardCount=1)
    config = rig.config(
        model=ECHO, kcl="failover_ms = 5000", sinks=f'[[sink]]\ntype = "kinesis"\nstream = "{downstream}"'
    )
    rig.start(config)
    rig.start(config)
    put(rig, "before", 50)
    time.sleep(0.05)  # the clock is what is waited for
    moment = pd.Timestamp.now(tz="UTC").floor("ms")
    time.sleep(0.05)  # as above
    old = set(rig.put_ids)
    put(rig, "within", 100)
    rig.reshard(3)
    with rig.flowing(per_second=20):
        rig.enriched(len(rig.put_ids))
        wait_until(lambda: len(rig.leases()) > 3 and moved_on(rig), SOON_S, "every shard is read")
        undo = rewound(rig, config, moment)
        wait_until(lambda: moved_on(rig), SOON_S, "every shard is read again")
    rig.settle()

    rows = rig.read(downstream)
    moved = pd.Timestamp(undo.stat().st_mtime, unit="s", tz="UTC")
    again = Counter(row["record_id"] for row in rows if pd.Timestamp(row["processed_at"]) >= moved)
    assert set(again) == rig.put_ids - old, "nothing lost, and nothing from before the target"
    assert set(again.values()) == {1}, "nothing twice"
    assert len({row["record_id"] for row in rows}) == len(rig.put_ids)
    assert all(worker.leave() == 0 for worker in rig.workers)


def rewound(rig: Rig, config: Path, moment: pd.Timestamp) -> Path:
    """The undo file, which was last written just before the leases were moved."""
    undo = rig.folder / "undo.json"
    words = ["replay", "--config", str(config), "--rewind", "--to-time", moment.isoformat(), "--undo", str(undo)]
    done = CliRunner().invoke(main, [*words, "--online", "--execute", "--json"])
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    assert len(said["moves"]) >= 4
    assert said["began_right"] and not said["began_elsewhere"], said
    return undo


def moved_on(rig: Rig) -> bool:
    """Whether every lease is at its end, or has an owner and a checkpoint after a record."""
    return all(lease.ended or (lease.owner and lease.checkpoint is not None) for lease in rig.leases().values())


def put(rig: Rig, what: str, count: int) -> None:
    rig.put([(json.dumps({"text": f"{what} {number}"}).encode(), f"{number}") for number in range(count)])
