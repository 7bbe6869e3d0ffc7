"""The model of the simulated application. A record's payload says what happens to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from pipeline.model import Model, Reject

GOOD, REJECTED, RAISES, FLAKY, NAN, KILLS, HANGS, GARBLED = (
    "good",
    "rejected",
    "raises",
    "flaky",
    "nan",
    "kills",
    "hangs",
    "garbled",
)
BAD = (REJECTED, RAISES, FLAKY, NAN, KILLS, HANGS, GARBLED)


FELLS = "fells"
"""Kills the whole task, in every try."""


def payload(number: int, kind: str, padding: int) -> bytes:
    if kind == GARBLED:
        return b"\xff" * (1 + padding)
    return orjson.dumps({"number": number, "kind": kind, "padding": "." * padding})


class Plain(Model):
    output_schema = pa.schema([("number", pa.int64()), ("score", pa.float64())])

    def predict(self, items: Sequence[Any]) -> list[Any]:
        kinds = {item["kind"] for item in items}
        if RAISES in kinds or (FLAKY in kinds and random.random() < 0.5):
            raise ValueError("this batch is not to my taste")
        return [self._row(item) for item in items]

    def _row(self, item: Any) -> Any:
        if item["kind"] == REJECTED:
            return Reject("rejected")
        return {"number": item["number"], "score": float("nan") if item["kind"] == NAN else 0.5}


class Measured(Plain):
    """A record costs as much as its length."""

    def cost(self, item: Any) -> int:
        return len(item["padding"])


class Padded(Measured):
    """Its records may overtake each other."""

    pads = True


def ends(payloads: Sequence[bytes]) -> str:
    return "killed by signal 11" if any(b'"kills"' in each for each in payloads) else ""


def fells(payloads: Sequence[bytes]) -> bool:
    return any(b'"fells"' in each for each in payloads)


def hangs(payloads: Sequence[bytes]) -> bool:
    return any(b'"hangs"' in each for each in payloads)
