"""The settings of the simulated application: drawn from a seed, and as a configuration."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from consumer.config import settings as configured
from consumer.config.load import parse
from consumer.config.model_settings import InFlightSettings

STREAM = "events"
TABLE, LETTERS = "/table", "/letters"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of an application, so small that its limits are always reached."""

    measured: bool
    replicas: int
    retries: int
    max_records: int
    max_cost: int
    linger_s: float
    window_records: int
    window_bytes: int
    flush_interval_s: float
    flush_bytes: int
    read_limit: int
    budget_s: float
    predict_s: float
    downstream: bool
    pads: bool
    bucket_records: int
    target_s: float | None
    timeout_s: float = 5.0

    @classmethod
    def drawn(cls, dice: random.Random) -> Settings:
        measured = dice.random() < 0.25
        return cls(
            measured=measured,
            replicas=dice.choice([1, 1, 2]),
            retries=dice.choice([0, 1]),
            max_records=dice.choice([2, 8, 16]),
            max_cost=dice.choice([40, 300]) if measured else 0,
            linger_s=dice.choice([0.02, 0.5]),
            window_records=dice.choice([4, 12, 40]),
            window_bytes=dice.choice([4_000, 12_000, 80_000]),
            flush_interval_s=dice.choice([2.0, 5.0, 10.0]),
            flush_bytes=dice.choice([2_000, 8_000, 30_000]),
            read_limit=dice.choice([1, 5, 15]),
            budget_s=dice.choice([2.0, 10.0, 30.0]),
            predict_s=dice.choice([0.02, 0.1, 0.5]),
            downstream=dice.random() < 0.25,
            pads=measured and dice.random() < 0.5,
            bucket_records=dice.choice([3, 512]),
            target_s=dice.choice([None, 0.3]),
        )


@lru_cache(maxsize=1)
def configured_as(settings: Settings) -> configured.Settings:
    """Settings as users write them, but with far smaller limits. All tasks of a seed have the same."""
    model = "Padded" if settings.pads else "Measured" if settings.measured else "Plain"
    sinks = [
        {"type": "parquet", "url": TABLE, "flush_interval_s": settings.flush_interval_s},
        *([{"type": "kinesis", "stream": "enriched"}] if settings.downstream else []),
    ]
    parsed = parse(
        {
            "stream": {"name": STREAM, "application": "app"},
            "model": {
                "factory": f"tests.simulation.app_model:{model}",
                "version": "m@1",
                "replicas": settings.replicas,
                "threads": 1,
                "device": "cpu",
                "memory_mib": 0,
                "timeout_s": settings.timeout_s,
                "retries": settings.retries,
                "not_finite": "reject",
            },
            "batch": {
                "max_records": settings.max_records,
                "max_cost": settings.max_cost,
                "linger_ms": settings.linger_s * 1000,
                "bucket_records": settings.bucket_records,
                "target_latency_ms": 1000 * (settings.target_s or 0),
            },
            "sink": sinks,
            "dead_letter": {"url": LETTERS, "max_ratio": 1.0, "max_consecutive": 0},
        }
    )
    in_flight = InFlightSettings.model_construct(
        records_per_shard=settings.window_records, total_mib=settings.window_bytes / MIB
    )
    table = parsed.sink[0].model_copy(update={"flush_mib": settings.flush_bytes / MIB})
    return parsed.model_copy(update={"in_flight": in_flight, "sink": (table, *parsed.sink[1:])})
