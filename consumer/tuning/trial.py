"""A model tried on records, for ``penstock try``: through the same batcher, replicas and row schema as in a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from consumer.feed import Feed
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.table.schema import IDENTITY, encode

if TYPE_CHECKING:
    from consumer.config.settings import Settings

SHARD_ID = "try"
"""What the model sees as the records' shard."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of the records, which are numbered from 1.

    ``rows``: the table's columns without Penstock's own, one row for each number of ``numbers``. ``dead``: the others.
    """

    rows: pa.Table
    numbers: list[int]
    dead: dict[int, Dead]
    loaded_s: float
    predicted_s: float


def tried(settings: Settings, payloads: Sequence[bytes]) -> Tried:
    """Load the model in one replica, and have it judge the payloads. Calls no AWS and writes nothing.

    :raises UserError: the model or its columns cannot be used: ``ModelError``, ``ConfigError``.
    :raises Fatal: the model's process cannot go on.
    """
    one = {"replicas": 1} if settings.model.replicas == "auto" else {}
    model = settings.model.model_copy(update=one)
    return asyncio.run(_tried(settings.model_copy(update={"model": model}), payloads))


async def _tried(settings: Settings, payloads: Sequence[bytes]) -> Tried:
    now_ms = int(time.time() * 1000)
    records = [Record(SHARD_ID, data, "", str(number), 0, now_ms) for number, data in enumerate(payloads, 1)]
    began_s = time.monotonic()
    async with Feed(settings) as feed:
        loaded_s = time.monotonic() - began_s
        await feed.settle(Shard(settings.stream.name, 0, SHARD_ID), records)
        predicted_s = time.monotonic() - began_s - loaded_s
        table = feed.schema.table(records)
    encode(table, {})
    return Tried(
        rows=table.drop_columns(IDENTITY.names),
        numbers=[int(record.sequence) for record in records if isinstance(record.outcome, Enriched)],
        dead={int(record.sequence): record.outcome for record in records if isinstance(record.outcome, Dead)},
        loaded_s=loaded_s,
        predicted_s=predicted_s,
    )
