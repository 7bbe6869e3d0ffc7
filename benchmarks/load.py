"""The models' input."""

from __future__ import annotations

import json
import random

LENGTH = 128
"""Tokens of an item of the reference model."""


def payloads(model: str, count: int) -> list[tuple[bytes, str]]:
    """Return records and their partition keys: docstrings, or tokens for ``reference``."""
    if model != "reference":
        from examples.demo.corpus import records

        return records(count, seed=9)
    dice = random.Random(9)
    tokens = [[dice.randrange(2, 1_000) for _ in range(LENGTH)] for _ in range(min(count, 64))]
    return [(json.dumps({"tokens": tokens[i % len(tokens)]}).encode(), str(i)) for i in range(count)]
