"""A model that puts payloads into every error that it can raise."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

import tests.support.without_pandas  # noqa: F401
from pipeline.model import Model, Reject

HANG_S = 600


class Telling(Model):
    """A record says what it does: ``{"do": …, "canary": …}``."""

    output_schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])

    def decode(self, data: bytes) -> Any:
        item = super().decode(data)
        if item.get("do") == "decode raises":
            raise ValueError(f"cannot decode {data!r}")
        return item

    def cost(self, item: Mapping[str, Any]) -> int:
        if item["do"] == "cost raises":
            raise LookupError(item)
        return item["canary"] if item["do"] == "cost is text" else 1

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [DEEDS[item["do"]](item["canary"]) for item in items]


def _reject(canary: str) -> Any:
    return Reject(f"I do not like {canary}")


def _raise(canary: str) -> Any:
    try:
        raise KeyError(canary)
    except KeyError as error:
        raise ValueError(f"cannot use {canary}") from error


def _lose_device(canary: str) -> Any:
    raise RuntimeError(f"CUDA error: device-side assert triggered {{{canary}}}")


def _run_out(canary: str) -> Any:
    raise MemoryError(canary)


def _exit(canary: str) -> Any:
    raise SystemExit(canary)


DEEDS: dict[str, Callable[[str], Any]] = {
    "well": lambda canary: {"n": 1, "x": 1.0},
    "reject": _reject,
    "raise": _raise,
    "exit": _exit,
    "encode": lambda canary: f"{canary}ü".encode("ascii"),
    "wrong type": lambda canary: {"n": canary, "x": 1.0},
    "no mapping": lambda canary: canary,
    "not finite": lambda canary: {"n": 1, "x": float("nan")},
    "run out of memory": _run_out,
    "lose device": _lose_device,
    "segfault": lambda canary: ctypes.string_at(0),
    "die": lambda canary: os._exit(3),
    "hang": lambda canary: time.sleep(HANG_S),
}
