"""A shard's process. ``BENCH_MODEL`` is ``minilm`` or ``reference``; counts and results go to ``BENCH_FOLDER``."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

from pipeline.model import LoadContext, Model

CALL_RECORDS = {"minilm": 16, "reference": 4}
CHECKPOINT_S = 60.0


def model_of(name: str) -> Model:
    """Loaded, with weights of its own."""
    from examples import encoder

    mapped = encoder.read_weights
    encoder.read_weights = lambda path, device="cpu": {key: each.clone() for key, each in mapped(path, device).items()}
    made: Model
    if name == "minilm":
        from examples.minilm import MiniLM

        made = MiniLM()
    else:
        from examples.reference_1gb import Reference

        made = Reference()
    made.load(LoadContext(threads=int(os.environ["OMP_NUM_THREADS"])))
    return made


class Processor(processor.RecordProcessorBase):  # type: ignore[misc]
    def initialize(self, initialize_input: Any) -> None:
        name = os.environ["BENCH_MODEL"]
        self._folder = Path(os.environ["BENCH_FOLDER"])
        self._model = model_of(name)
        self._most = CALL_RECORDS[name]
        self._count = 0
        self._checkpointed_s = time.monotonic()
        self._note()

    def process_records(self, process_records_input: Any) -> None:
        rows: list[dict[str, Any]] = []
        records = process_records_input.records
        for start in range(0, len(records), self._most):
            items = [self._model.decode(record.binary_data) for record in records[start : start + self._most]]
            results: Any = self._model.predict(items)
            rows += results
            self._count += len(items)
            self._note()
        if rows:
            self._write(rows)
        if time.monotonic() - self._checkpointed_s > CHECKPOINT_S:
            process_records_input.checkpointer.checkpoint()
            self._checkpointed_s = time.monotonic()

    def lease_lost(self, lease_lost_input: Any) -> None:
        return

    def shard_ended(self, shard_ended_input: Any) -> None:
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        shutdown_requested_input.checkpointer.checkpoint()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = [pa.array([row[field.name] for row in rows], field.type) for field in self._model.output_schema]
        table = pa.Table.from_arrays(columns, schema=self._model.output_schema)
        pq.write_table(table, self._folder / f"{uuid.uuid4().hex}.parquet")

    def _note(self) -> None:
        """How many records were predicted, for whoever measures."""
        (self._folder / f"{os.getpid()}.count").write_text(str(self._count))


if __name__ == "__main__":
    kcl.KCLProcess(Processor()).run()
