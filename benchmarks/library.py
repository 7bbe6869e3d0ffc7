"""MiniLM as its library gives it: sentence-transformers' ``encode``, which sorts what it is given and pads the rest.

The same weights as ``examples.minilm``. What most people would write, and what stock ``amazon_kclpy`` is measured with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from examples.minilm import WIDTH, MiniLM, installed_folder
from pipeline.model import LoadContext


class Library(MiniLM):
    output_schema = pa.schema([("embedding", pa.list_(pa.float32(), WIDTH))])

    def load(self, context: LoadContext) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(context.threads)
        self._model = SentenceTransformer(str(installed_folder()), device="cpu")

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        embeddings = self._model.encode([item["text"] for item in items], show_progress_bar=False)
        return [{"embedding": row} for row in embeddings]
