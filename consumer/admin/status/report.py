"""The result of a look: one dataclass for the command, its JSON, and any page that shows the same."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import Any


class Kind(enum.Enum):
    """Why a shard makes no progress. A closed set; :class:`Why` has the words."""

    PARENT = "waits_for_parent"
    LEADER_DEAD = "no_owner_leader_dead"
    NO_OWNER = "no_owner"
    OWNER_DEAD = "owner_dead"
    HANDOFF = "handoff_pending"
    MAX_LEASES = "max_leases"
    NO_METRIC = "worker_reports_no_metric"
    BISECTING = "record_bisected"
    MODEL_STUCK = "model_stuck"
    SINK_REFUSED = "sink_refused"
    NOT_BEGUN = "not_begun"
    NO_NEW_RECORDS = "no_new_records"
    NO_LEASE = "no_lease"
    UNKNOWN = "unknown"


class Trend(enum.Enum):
    """How the time that a shard is behind changes."""

    GROWING = "growing"
    STEADY = "steady"
    SHRINKING = "shrinking"


@dataclass(frozen=True, slots=True)
class Why:
    """``since_s``: epoch seconds; None if unknown."""

    kind: Kind
    text: str
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard that is not read to its end. None is unknown.

    ``records_behind`` is known if the shard is read up to its tip: it is the number of records that the worker holds.
    ``rate``: records settled per second, 0 if no living worker has the shard.
    ``caught_up_in_s``: 0 if it has caught up, None if it does not catch up. ``checkpoint_age_s``: since it last moved.
    """

    shard_id: str
    open: bool
    owner: str | None
    drained_by: str | None
    records_behind: int | None
    behind_s: float | None
    trend: Trend | None
    caught_up_in_s: float | None
    rate: float | None
    checkpoint: str
    checkpoint_age_s: float | None
    parents: tuple[str, ...]
    why: Why | None
    skips: tuple[str, ...] = ()
    """Records that an operator skips, which no worker has skipped yet."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that holds leases, reports, or has written a note. ``seen_s_ago``: since its last sign of life.

    ``source``: where its figures come from, ``page`` or ``note``; None if there are none.
    """

    worker: str
    alive: bool
    leader: bool
    leases: int
    seen_s_ago: float | None
    batch_size: float | None
    busy: float | None
    efficiency: float | None
    version: str | None
    source: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """``behind_s`` is the largest; the rates are sums. None if unknown for one of the shards that count."""

    open_shards: int
    shards_to_read: int
    shards_ended: int
    standing_still: int
    workers_alive: int
    workers: int
    behind_s: float | None
    trend: Trend | None
    caught_up_in_s: float | None
    rate: float | None
    arrival_rate: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """An application at one moment."""

    stream: str
    application: str
    at_s: float
    layout: str
    migration: str | None
    leader: str | None
    totals: Totals
    shards: tuple[ShardStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    unread: tuple[str, ...] = field(default=())
    """What could not be read, one line each."""


def as_json(status: Status) -> dict[str, Any]:
    """The object of ``penstock.status/1``. Unknown values are null."""
    said: dict[str, Any] = _plain(asdict(status))
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value
