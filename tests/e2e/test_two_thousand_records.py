"""The main job with the real KCL and the real model: every record is exactly one row, with the model's own result."""

from __future__ import annotations

import json

import numpy as np

from examples.demo.corpus import records
from examples.minilm import MiniLM
from pipeline.model import LoadContext
from tests.e2e.rig import MINILM, Rig, wait_until

TOLERANCE = 1e-4
RECORDS = 800
COMPARED = 200


def test_every_docstring_becomes_one_row(rig: Rig) -> None:
    rig.create(shards=2)
    worker = rig.start(rig.config(model=MINILM))
    rig.put(records(RECORDS, seed=1))
    rig.enriched(1)
    assert worker.get("/healthz")[0] == 200
    wait_until(lambda: worker.get("/readyz")[0] == 200, 30, "every shard of the task is read")
    assert b"penstock_records_enriched_total" in worker.get("/metrics")[1]
    rig.settle(deadline_s=180)
    assert worker.leave() == 0
    rows = rig.expect_each_once()
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
    assert set(rows["model_version"]) == {"test-1"}
    assert rig.dead_letters() == []
    check_embeddings(rows.sample(COMPARED, random_state=0), dict(keyed(rig)))


def keyed(rig: Rig) -> list[tuple[tuple[str, str], str]]:
    found = [json.loads(data) for data, _ in records(RECORDS, seed=1)]
    return [((item["module"], item["name"]), item["text"]) for item in found]


def check_embeddings(rows, texts) -> None:  # type: ignore[no-untyped-def]  # a DataFrame, and texts by identity
    model = MiniLM()
    model.load(LoadContext(threads=1))
    for row in rows.itertuples():
        [expected] = model.predict([{"text": texts[row.module, row.name]}])
        assert np.abs(np.asarray(expected["embedding"]) - row.embedding).max() < TOLERANCE
