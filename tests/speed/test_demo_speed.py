"""``penstock demo``, the main job with the real KCL and the real model: each record is one row with the model's own
result, and the first one comes soon on a machine without other load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from examples.demo.corpus import records
from examples.minilm import MiniLM
from pipeline.model import LoadContext
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 50
FIRST_S = 25
TOLERANCE = 1e-4


def test_every_docstring_becomes_one_row_with_the_models_own_result(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "consumer.cli", "demo", "--records", f"{RECORDS}", "--out", str(out), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            expected = embeddings()  # while KCL waits for its leases
            said, log = demo.communicate(timeout=110)
        finally:
            demo.kill()
    assert demo.returncode == 0, log
    expect_one_object(said, out)
    expect_rows(out, expected)
    assert json.loads(said)["first_record_s"] <= FIRST_S


def embeddings() -> dict[tuple[str, str], np.ndarray]:
    """The model's results in this process, by module and name."""
    model = MiniLM()
    model.load(LoadContext(threads=1))
    items = [json.loads(data) for data, _ in records(RECORDS)]
    rows = model.predict(items)
    return {(item["module"], item["name"]): row["embedding"] for item, row in zip(items, rows, strict=True)}


def expect_one_object(said: str, out: Path) -> None:
    assert said.count("\n") == 1
    result = json.loads(said)
    assert result["rows"] == result["distinct_record_ids"] == result["records"] == RECORDS
    assert result["dead_letters"] == 0 and result["shards"] == 2 and result["batches"] > 0
    assert result["mean_batch"] > 0 and result["records_per_s"] > 0 and result["first_record_s"] > 0
    assert result["out"] == str(out)


def expect_rows(out: Path, expected: dict[tuple[str, str], np.ndarray]) -> None:
    rows = pd.read_parquet(out / "enriched")
    assert list(rows.columns)[:8] == [
        "record_id",
        "shard_id",
        "sequence_number",
        "sub_sequence_number",
        "partition_key",
        "arrived_at",
        "processed_at",
        "model_version",
    ]
    assert set(rows["model_version"]) == {"all-MiniLM-L6-v2"}
    assert {*zip(rows["module"], rows["name"], strict=True)} == expected.keys() and len(rows) == RECORDS
    for row in rows.itertuples():
        assert np.abs(expected[str(row.module), str(row.name)] - row.embedding).max() < TOLERANCE, row.record_id
    assert b"penstock_records_enriched_total" in (out / "logs" / "worker-0.prom").read_bytes()
    assert audit(FolderStore(out / "enriched"), FolderStore(out / "dead-letter")).problems == []
