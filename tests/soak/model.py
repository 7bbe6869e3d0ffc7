"""A model that takes a given time and notes what it has finished, and one that takes no time and accepts
any payload."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.model import LoadContext, Model, Reject


class Slow(Model):
    """Takes ``options["batch_s"]`` for every batch. Appends the numbers that it has predicted to
    ``options["finished"]``, a line per batch, and ``+`` to ``options["begun"]`` when it begins one."""

    output_schema = pa.schema([("n", pa.int64())])

    def load(self, context: LoadContext) -> None:
        self.batch_s = float(context.options["batch_s"])
        self.begun = Path(context.options["begun"])
        self.finished = Path(context.options["finished"])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        _append(self.begun, "+")
        time.sleep(self.batch_s)  # the work
        _append(self.finished, " ".join(str(item["n"]) for item in items) + "\n")
        return [{"n": item["n"]} for item in items]


def _append(file: Path, text: str) -> None:
    with file.open("a") as told:
        told.write(text)


class Sized(Model):
    """Returns the number of bytes of every payload, also of an empty one."""

    output_schema = pa.schema([("bytes", pa.int64())])

    def decode(self, data: bytes) -> int:
        return len(data)

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        return [{"bytes": item} for item in items]
