"""Models that need no weights."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.model import LoadContext, Model, Reject


class Misspelt(Model):
    """A bad release: it reads a key that records do not have."""

    output_schema = pa.schema([("said", pa.string()), ("chars", pa.int64())])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        return [{"said": item["txet"], "chars": 0} for item in items]


class Forgetful(Model):
    """A bad release: it fails on every third of texts that end with a number."""

    output_schema = pa.schema([("said", pa.string()), ("chars", pa.int64())])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        if any(int(item["text"].split()[-1]) % 3 == 0 for item in items):
            raise KeyError("lang")
        return [{"said": item["text"], "chars": len(item["text"])} for item in items]


class Echo(Model):
    """Returns the payload's text and its length."""

    output_schema = pa.schema([("said", pa.string()), ("chars", pa.int64())])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        return [{"said": item["text"], "chars": len(item["text"])} for item in items]


class Picky(Echo):
    """Rejects items without a text."""

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        return [self.one(item) for item in items]

    def one(self, item: Any) -> Mapping[str, Any] | Reject:
        text = item.get("text") if isinstance(item, dict) else None
        return {"said": text, "chars": len(text)} if isinstance(text, str) else Reject("text is not a string")


class Paced(Picky):
    """Takes 5 ms for each item, as a small transformer does for a docstring."""

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        time.sleep(0.005 * len(items))  # the work
        return super().predict(items)


class Moody(Paced):
    """Does what its records say: "hang" takes 22 seconds, and "bad" fails slowly."""

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        said = {item["text"].split()[0] for item in items}
        if "hang" in said:
            time.sleep(22)  # the work
        if "bad" in said:
            time.sleep(1)  # the work
            raise ValueError("a bad record")
        return super().predict(items)


class Loading(Echo):
    """Takes longer to load than any test waits."""

    def load(self, context: LoadContext) -> None:
        time.sleep(600)  # the work


class Steady(Echo):
    """Takes 20 ms for a batch of any size."""

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        time.sleep(0.02)  # the work
        return super().predict(items)


class Clock(Model):
    """Returns when it saw a record, in epoch seconds."""

    output_schema = pa.schema([("seen_s", pa.float64())])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        return [{"seen_s": time.time()} for _ in items]
