"""MiniLM as in the hub: transformers pads every batch to its longest text.

The same weights as ``examples.minilm``, which needs no padding; most models are like this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from examples.minilm import MAX_TOKENS, MiniLM, installed_folder, read_text
from pipeline.model import LoadContext


class Padded(MiniLM):
    """Without ``cost``: its batches are formed without regard to lengths."""

    def load(self, context: LoadContext) -> None:
        """Load the weights of ``examples.minilm`` with transformers."""
        import torch
        from transformers import BertModel

        torch.set_num_threads(context.threads)
        self._model: Any = BertModel.from_pretrained(installed_folder(), add_pooling_layer=False)
        self._model.eval()  # type: ignore[no-untyped-call]  # it ships no type of it

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, made at first use: it is also needed without ``load``."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(read_text(installed_folder() / "tokenizer.json"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        return tokenizer

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Pad the texts to the longest, and return an embedding for each."""
        import torch

        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast([item["text"] for item in items])]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1)
            means = (hidden * weights).sum(1) / weights.sum(1)
            embeddings = torch.nn.functional.normalize(means).numpy()
        return [{"embedding": row, "tokens": len(ids)} for row, ids in zip(embeddings, rows, strict=True)]


class Measured(Padded):
    """With ``cost`` and ``pads``: batches of similar lengths are formed."""

    pads = True

    def cost(self, item: Mapping[str, Any]) -> int:
        """Return the number of tokens."""
        return len(self.tokenizer.encode(item["text"]).ids)
