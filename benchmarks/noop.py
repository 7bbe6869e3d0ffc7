"""Models that do nothing, or only wait: what is measured with them is everything else."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa

from pipeline.model import LoadContext


class Noop:
    """Returns the size of each payload."""

    output_schema = pa.schema([("size", pa.int64())])

    def example(self) -> bytes:
        """Return a small payload."""
        return b"{}"

    def decode(self, data: bytes) -> bytes:
        """Return the payload itself."""
        return data

    def predict(self, items: Sequence[bytes]) -> list[dict[str, int]]:
        """Return the size of each payload."""
        return [{"size": len(item)} for item in items]


class Slow(Noop):
    """Takes ``seconds`` (an option) for each batch, without using a core."""

    def load(self, context: LoadContext) -> None:
        """Read the option ``seconds``."""
        self._seconds = float(context.options["seconds"])

    def predict(self, items: Sequence[bytes]) -> list[dict[str, int]]:
        """Sleep, then return the size of each payload."""
        time.sleep(self._seconds)
        return super().predict(items)
