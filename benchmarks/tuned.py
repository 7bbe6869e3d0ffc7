"""What ``penstock tune`` finds best for the 1 GB reference: replicas x threads and the batch; and how fast others are.

    python -m benchmarks.tuned [--json] [RUNS]

It runs the command itself, on items of 128 tokens, once for each run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.alone import run
from benchmarks.figures import Figure
from benchmarks.load import payloads

ROOT = Path(__file__).resolve().parents[1]
MOST_RUNS = 3
SECONDS = 60
RECORDS = 256
MAX_RECORDS = 16
CONFIG = f"""
[stream]
name = "bench"
application = "bench"
[model]
factory = "examples.reference_1gb:Reference"
version = "bench"
[batch]
max_records = {MAX_RECORDS}
[[sink]]
type = "parquet"
url = "table"
[dead_letter]
url = "dead"
"""


def tuned() -> dict[str, Any]:
    """Run ``penstock tune --json`` and return its answer."""
    with tempfile.TemporaryDirectory() as folder:
        config, records = Path(folder, "bench.toml"), Path(folder, "records.jsonl")
        config.write_text(CONFIG)
        records.write_bytes(b"\n".join(payload for payload, _ in payloads("reference", RECORDS)))
        command = [
            *(sys.executable, "-m", "consumer.cli", "tune", "--json"),
            *("--config", str(config), "--records", str(records), "--seconds", str(SECONDS)),
        ]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def measure(runs: int = MOST_RUNS) -> dict[str, Figure]:
    """Return what was found in each run."""
    said = [tuned() for _ in range(min(runs, MOST_RUNS))]
    best = ", ".join("{replicas} x {threads} with {records}".format(**each["best"]) for each in said)
    figures = {"tuned": Figure("tuned", [each["best"]["records_per_s"] for each in said], "records/s", text=best)}
    rates: dict[str, list[float]] = {}
    for row in (row for each in said for row in each["measured"]):
        key = f"tuned_{row['replicas']}x{row['threads']}_{row['records']}"
        rates.setdefault(key, []).append(row["records_per_s"])
    for key, values in sorted(rates.items()):
        figures[key] = Figure(key, values, "records/s", text="replicas x threads, records in a batch")
    return figures


if __name__ == "__main__":
    run(measure)
