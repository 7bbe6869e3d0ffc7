"""What a stream's open shards cost a day. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.aws.prices import Prices

HOURS = 24
INCLUDED_RETENTION_H = 24


@dataclass(frozen=True, slots=True)
class Daily:
    """Dollars (or what the file of prices has) a day; None is unknown. ``parts``: each item's sum."""

    total: float | None
    parts: dict[str, float | None]


def daily(prices: Prices, shards: int, *, consumers: int | None, retention_hours: int | None) -> Daily:
    """Of so many open shards, with so many registered fan-out consumers and this retention.

    What is charged by the amount of data (puts, reads, long retention) is not in it: the count of shards does not
    change it.
    """
    parts = {"shards": _times(prices.of("kinesis_shard_hour"), shards)}
    if consumers != 0:
        each = prices.of("kinesis_fan_out_consumer_shard_hour")
        parts["fan_out_consumers"] = None if consumers is None else _times(each, shards * consumers)
    if retention_hours is None or retention_hours > INCLUDED_RETENTION_H:
        each = prices.of("kinesis_extended_retention_shard_hour")
        parts["extended_retention"] = None if retention_hours is None else _times(each, shards)
    known = [part for part in parts.values() if part is not None]
    return Daily(sum(known) if len(known) == len(parts) else None, parts)


def _times(price: float | None, units: int) -> float | None:
    return None if price is None else price * units * HOURS
