"""What a stream's open shards cost a day. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.aws.prices import Prices

HOURS = 24
INCLUDED_RETENTION_H = 24


@dataclass(frozen=True, slots=True)
class Daily:
    """Cost per day in the currency of the price file; None is unknown. ``parts``: the cost of each item."""

    total: float | None
    parts: dict[str, float | None]


def daily(prices: Prices, shards: int, *, consumers: int | None, retention_hours: int | None) -> Daily:
    """The cost of this number of open shards and registered fan-out consumers, with this retention.

    Charges by the amount of data (puts, reads, long retention) are left out: they do not depend on the number of
    shards.
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
