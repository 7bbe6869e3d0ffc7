"""Models that do nothing, or nothing but wait: what is measured beside them is everything else."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa

from pipeline.model import LoadContext


class Noop:
    """Says how long each payload is."""

    output_schema = pa.schema([("size", pa.int64())])

    def example(self) -> bytes:
        return b"{}"

    def decode(self, data: bytes) -> bytes:
        return data

    def predict(self, items: Sequence[bytes]) -> list[dict[str, int]]:
        return [{"size": len(item)} for item in items]


class Slow(Noop):
    """Takes ``seconds`` (of its options) for each batch, without using a core."""

    def load(self, context: LoadContext) -> None:
        self._seconds = float(context.options["seconds"])

    def predict(self, items: Sequence[bytes]) -> list[dict[str, int]]:
        time.sleep(self._seconds)
        return super().predict(items)
