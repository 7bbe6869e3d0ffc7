"""The smallest useful model: is a text friendly? It counts words, so it needs no weights and no library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.model import LoadContext, Reject

GOOD = ("excellent", "glad", "good", "great", "happy", "love", "nice", "perfect", "thanks", "wonderful")
BAD = ("awful", "bad", "broken", "hate", "poor", "sad", "slow", "terrible", "useless", "worst")


class Sentiment:
    """Rates a text by its words. Options: ``good`` and ``bad``, lists of words that replace the built-in ones."""

    output_schema = pa.schema([("label", pa.string()), ("score", pa.float32())])

    def load(self, context: LoadContext) -> None:
        """Called once in each process: load weights, set threads and device."""
        self.weight = dict.fromkeys(context.options.get("good", GOOD), 1)
        self.weight |= dict.fromkeys(context.options.get("bad", BAD), -1)

    def example(self) -> Mapping[str, Any]:
        """Return an item to predict before the first record comes."""
        return {"text": "thanks"}

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | Reject]:
        """Take a micro-batch of items and return as many results."""
        return [self.judge(item.get("text")) for item in items]

    def judge(self, text: object) -> Mapping[str, Any] | Reject:
        """Rate one text, or reject the record: it alone becomes a dead letter."""
        if not isinstance(text, str):
            return Reject("no field 'text' that is a string")
        found = [self.weight[word] for word in re.findall(r"\w+", text.lower()) if word in self.weight]
        score = sum(found) / len(found) if found else 0.0
        return {"label": "good" if score > 0 else "bad" if score < 0 else "neutral", "score": score}
