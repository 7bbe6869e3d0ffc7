"""Seconds until the first record of `penstock demo`, on a machine without other load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_answers_with_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "consumer.cli", "demo", "--records", "60", "--out", str(out), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=True)
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert result["rows"] == result["distinct_record_ids"] == result["records"] == 60
    assert result["dead_letters"] == 0 and result["shards"] == 2 and result["batches"] > 0
    assert result["mean_batch"] > 0 and result["records_per_s"] > 0 and result["first_record_s"] <= 25
    assert result["out"] == str(out)
