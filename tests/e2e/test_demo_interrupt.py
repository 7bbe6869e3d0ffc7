"""Ctrl-C on the demo drains and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from examples.demo.worker import Worker
from tests.e2e.rig import ROOT, wait_until


def test_ctrl_c_drains_and_leaves_nothing_running(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "consumer.cli", "demo", "--records", "600", "--out", str(out)]
    demo = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        worker = Worker(demo, out / "logs" / "worker-0.jsonl")
        wait_until(lambda: worker.log.exists() and worker.stats().get("enriched"), 90, "the first rows")
        started = psutil.Process(demo.pid).children(recursive=True)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(60) == 130
    finally:
        demo.kill()
        demo.wait()
    assert len(started) >= 4
    _, alive = psutil.wait_procs(started, timeout=15)
    assert alive == []
    assert "drained every shard and released the leases" in worker.log.read_text()
    assert list((out / "enriched").rglob("*.parquet"))
