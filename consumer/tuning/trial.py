"""Runs a model on records for ``penstock try``, with the batcher, replicas and row schema of a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import pyarrow as pa

from consumer.feed import Feed
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.table.schema import IDENTITY, encode

if TYPE_CHECKING:
    from consumer.config.settings import Settings

SHARD_ID = "try"
"""What the model sees as the shard of records that come from no stream."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of the records, which are numbered from 1.

    ``rows``: the table's columns without Penstock's own, one row for each number of ``numbers``. ``dead``: the others.
    ``predicted_s``: duration of the first round. ``rate``: records per second, over all rounds but the first if there
    are more, since the first one finds out how large batches should be.
    """

    rows: pa.Table
    numbers: list[int]
    dead: dict[int, Dead]
    loaded_s: float
    predicted_s: float
    rate: float


def tried(settings: Settings, payloads: Sequence[bytes]) -> Tried:
    """As :func:`judged`, for payloads that come from no stream."""
    now_ms = int(time.time() * 1000)
    return judged(
        settings, [Record(SHARD_ID, data, None, str(number), 0, now_ms) for number, data in enumerate(payloads, 1)]
    )


def judged(settings: Settings, records: Sequence[Record], measure_s: float = 0.0) -> Tried:
    """Load the model in one replica, and have it judge copies of the records. Calls no AWS and writes nothing.

    The records are judged again, for the throughput alone, until ``measure_s`` have passed.

    :raises UserError: the model or its columns cannot be used: ``ModelError``, ``ConfigError``.
    :raises Fatal: the model's process cannot go on.
    """
    one = {"replicas": 1} if settings.model.replicas == "auto" else {}
    model = settings.model.model_copy(update=one)
    return asyncio.run(_judged(settings.model_copy(update={"model": model}), records, measure_s))


async def _judged(settings: Settings, given: Sequence[Record], measure_s: float) -> Tried:
    began_s = time.monotonic()
    async with Feed(settings) as feed:
        loaded_s = time.monotonic() - began_s
        records = _copies(given)
        took_s = [await _round(feed, settings, records)]
        while sum(took_s) < measure_s:
            took_s.append(await _round(feed, settings, _copies(given)))
        table = feed.schema.table(records)
    encode(table, {})
    outcomes = [(number, record.outcome) for number, record in enumerate(records, 1)]
    counted_s = took_s[1:] or took_s
    return Tried(
        rows=table.drop_columns(IDENTITY.names),
        numbers=[number for number, outcome in outcomes if isinstance(outcome, Enriched)],
        dead={number: outcome for number, outcome in outcomes if isinstance(outcome, Dead)},
        loaded_s=loaded_s,
        predicted_s=took_s[0],
        rate=len(records) * len(counted_s) / max(sum(counted_s), 1e-9),
    )


def _copies(records: Sequence[Record]) -> list[Record]:
    return [replace(record) for record in records]


async def _round(feed: Feed, settings: Settings, records: Sequence[Record]) -> float:
    """Settle the records, shard by shard in sequence order; return how many seconds it took."""
    began_s = time.monotonic()
    shards: dict[str, list[Record]] = {}
    for record in records:
        shards.setdefault(record.shard_id, []).append(record)
    for shard_id, of_shard in shards.items():
        of_shard.sort(key=attrgetter("position"))
        await feed.settle(Shard(settings.stream.name, 0, shard_id), of_shard)
    return time.monotonic() - began_s
