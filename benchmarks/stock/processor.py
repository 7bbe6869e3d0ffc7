"""A shard's process: ``python -m benchmarks.stock.processor MODEL FOLDER CALLS [--sorts]``. It writes to FOLDER."""

from __future__ import annotations

import argparse
import os
import random
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

from benchmarks import bare
from benchmarks.stock import Way
from pipeline.model import LoadContext, Model

CHECKPOINT_S = 60.0


def model_of(name: str) -> Model:
    """Return the loaded model, with weights in this process's own memory."""
    from examples import encoder

    mapped = encoder.read_weights
    encoder.read_weights = lambda path, device="cpu": {key: each.clone() for key, each in mapped(path, device).items()}
    made = bare.model_of(name)
    made.load(LoadContext(threads=int(os.environ["OMP_NUM_THREADS"])))
    return made


class Processor(processor.RecordProcessorBase):  # type: ignore[misc]
    """Predicts what KCL sends, writes Parquet, and checkpoints once a minute."""

    def __init__(self, way: Way, folder: Path) -> None:
        self._way, self._folder = way, folder

    def initialize(self, initialize_input: Any) -> None:
        """Load the model."""
        self._model = model_of(self._way.model)
        self._count = 0
        self._checkpointed_s = time.monotonic()
        self._note()

    def process_records(self, process_records_input: Any) -> None:
        """Predict all records, write the rows, and checkpoint if a minute has passed."""
        payloads = [record.binary_data for record in process_records_input.records]
        rows: list[dict[str, Any]] = [{}] * len(payloads)
        for places in formed(payloads, self._way):
            results: Any = self._model.predict([self._model.decode(payloads[place]) for place in places])
            for place, row in zip(places, results, strict=True):
                rows[place] = row
            self._count += len(places)
            self._note()
        if rows:
            self._write(rows)
        if time.monotonic() - self._checkpointed_s > CHECKPOINT_S:
            process_records_input.checkpointer.checkpoint()
            self._checkpointed_s = time.monotonic()

    def lease_lost(self, lease_lost_input: Any) -> None:
        """Do nothing."""
        return

    def shard_ended(self, shard_ended_input: Any) -> None:
        """Checkpoint the end of the shard."""
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        """Checkpoint what was processed."""
        shutdown_requested_input.checkpointer.checkpoint()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = [pa.array([row[field.name] for row in rows], field.type) for field in self._model.output_schema]
        table = pa.Table.from_arrays(columns, schema=self._model.output_schema)
        pq.write_table(table, self._folder / f"{uuid.uuid4().hex}.parquet")

    def _note(self) -> None:
        """Write the number of predicted records for the measuring process."""
        count = self._folder / f"{os.getpid()}.count"
        count.with_suffix(".new").write_text(str(self._count))
        count.with_suffix(".new").rename(count)


def formed(payloads: Sequence[bytes], way: Way) -> list[Sequence[int]]:
    """Return the indices of each call's records. Sorted calls are shuffled, so that any period of time has all
    lengths.
    """
    order: Sequence[int] = range(len(payloads))
    if way.sorts:
        order = sorted(order, key=lambda place: len(payloads[place]))
    most = way.calls or max(1, len(order))
    made = [order[start : start + most] for start in range(0, len(order), most)]
    if way.sorts:
        random.shuffle(made)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("calls", type=int)
    parser.add_argument("--sorts", action="store_true")
    said = parser.parse_args()
    kcl.KCLProcess(Processor(Way(said.model, said.calls, said.sorts), said.folder)).run()
