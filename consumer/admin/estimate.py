"""How much there is to read or to run, how long it takes, and what a day costs: as far as it is known. Pure.

The time comes from a rate that the operator gives, or from the pace of the application's own tasks: what each settles a
second, divided by the share of the time in which its model is busy. A task that is nearly idle does not tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.errors import counted

LEAST_BUSY = 0.1
"""Share of the time in which a model must be busy for its task's pace to be known."""

FRESH_S = 60.0
"""Seconds for which what a worker wrote of itself counts."""

WEEK_S = 7 * 86_400.0
"""Kinesis charges for reading records that are older (Amazon Kinesis Data Streams pricing, long-term retention)."""

UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Pace:
    """What the application's tasks do when they are busy. ``tasks``: those that said so; None: nobody did."""

    tasks: int = 0
    each: float | None = None
    """Records a second of one task; the median."""

    @property
    def all(self) -> float | None:
        """Records a second of all of them."""
        return None if self.each is None else self.each * self.tasks


@dataclass(frozen=True, slots=True)
class Estimate:
    """None is unknown. ``time_from``: where the time comes from, or why it is unknown. ``a_day``: what the plan does
    to the cost of a day, in words."""

    records: int | None
    bytes: int | None
    takes_s: float | None
    time_from: str
    a_day: str

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as ``--json`` prints it; None stands for what is unknown."""
        return {
            "records_about": self.records,
            "bytes_about": self.bytes,
            "takes_s": None if self.takes_s is None else round(self.takes_s, 1),
            "time_from": self.time_from,
            "a_day": self.a_day,
        }


def pace_of(workers: Iterable[tuple[float, Mapping[str, Any]]], now_s: float) -> Pace:
    """The pace of an application by its workers' reports: when each was written, and the statistics in it."""
    found = []
    for at_s, stats in workers:
        shards = stats.get("by_shard")
        busy = _number(stats.get("busy"))
        if now_s - at_s > FRESH_S or not isinstance(shards, Mapping) or busy is None or busy < LEAST_BUSY:
            continue
        rate = sum(_number(shard.get("rate")) or 0.0 for shard in shards.values() if isinstance(shard, Mapping))
        if rate > 0:
            found.append(rate / busy)
    return Pace(len(found), median(found)) if found else Pace()


def of_one_task(records: int | None, size: int | None, rate: float | None, pace: Pace, a_day: str) -> Estimate:
    """What one task does, at most ``rate`` records a second."""
    speeds = [speed for speed in (rate, pace.each) if speed]
    slower = min(speeds, default=None)
    said = "by the pace of the application's tasks" if slower == pace.each else "at this --rate"
    return _estimate(records, size, slower, said, a_day)


def of_the_application(records: int | None, size: int | None, pace: Pace, a_day: str) -> Estimate:
    """What all of the application's tasks do, besides what arrives meanwhile."""
    said = f"by the pace of {counted(pace.tasks, 'task')}, without what arrives meanwhile"
    return _estimate(records, size, pace.all, said, a_day)


def reading_again(mode: str, oldest_age_s: float) -> str:
    """What reading a stream once more does to the cost of a day."""
    if mode != "PROVISIONED":
        return f"{UNCHANGED}; on demand, Kinesis charges once for the bytes that are read"
    if oldest_age_s > WEEK_S:
        return f"{UNCHANGED}; Kinesis charges once for reading records older than 7 days"
    return f"{UNCHANGED}; in provisioned mode, Kinesis does not charge for reading"


def _estimate(records: int | None, size: int | None, speed: float | None, said: str, a_day: str) -> Estimate:
    if records == 0:
        return Estimate(0, size, 0.0, "there are none", a_day)
    if records is None:
        return Estimate(records, size, None, "the number of records is unknown", a_day)
    if not speed:
        return Estimate(records, size, None, "no busy worker says how fast it is", a_day)
    return Estimate(records, size, records / speed, f"{said}, {speed:,.1f} records/s", a_day)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
