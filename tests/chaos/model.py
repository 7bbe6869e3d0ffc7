"""Models for the storm: one that bad records harm in every possible way, and one that hangs while a file exists."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.model import LoadContext, Model, Reject

HANG_S = 3600.0
LOOK_S = 0.2


class Fragile(Model):
    """Returns the number of a record, and does what the record's ``do`` says. ``options``: ``record_s``, the time of an
    item that has a text."""

    output_schema = pa.schema([("n", pa.int64())])

    def load(self, context: LoadContext) -> None:
        self.record_s = float(context.options.get("record_s", 0.0))

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        time.sleep(self.record_s * sum("text" in item for item in items))  # the work
        return [self.one(item) for item in items]

    def one(self, item: Mapping[str, Any]) -> Mapping[str, Any] | Reject:
        match item.get("do"):
            case "reject":
                return Reject("it asks for it")
            case "raise":
                raise ValueError("it asks for it")
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(7)
            case "hang":
                time.sleep(HANG_S)
        return {"n": item["n"]}


class Hanging(Model):
    """Does not return from ``predict`` while the file ``options["while"]`` exists."""

    output_schema = pa.schema([("n", pa.int64())])

    def load(self, context: LoadContext) -> None:
        self.file = Path(context.options["while"])

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        while self.file.exists():
            time.sleep(LOOK_S)
        return [{"n": item["n"]} for item in items]
