"""MiniLM as its library offers it: sentence-transformers' ``encode``, which sorts its input by length and pads.

The same weights as ``examples.minilm``. Most people would write this; stock ``amazon_kclpy`` is measured with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from examples.minilm import WIDTH, MiniLM, installed_folder
from pipeline.model import LoadContext


class Library(MiniLM):
    """MiniLM by sentence-transformers, on the CPU."""

    output_schema = pa.schema([("embedding", pa.list_(pa.float32(), WIDTH))])

    def load(self, context: LoadContext) -> None:
        """Load the weights of ``examples.minilm`` with the library."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(context.threads)
        self._model = SentenceTransformer(str(installed_folder()), device="cpu")

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return an embedding for each text."""
        embeddings = self._model.encode([item["text"] for item in items], show_progress_bar=False)
        return [{"embedding": row} for row in embeddings]
