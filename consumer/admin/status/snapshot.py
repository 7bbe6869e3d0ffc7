"""The result of one look at an application. Plain data, filled by :mod:`consumer.admin.status.observe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from consumer.leases.state import ApplicationState
from consumer.leases.worker_notes import EVERY_S

PAGE: Final = "page"
NOTE: Final = "note"


@dataclass(frozen=True, slots=True)
class WorkerSaid:
    """What a worker reports about itself (:mod:`consumer.worker_report`), from its page or its note beside the leases.

    ``at_s``: when it reported, in epoch seconds by its own clock. Any key of ``stats`` may be missing.
    """

    stats: Mapping[str, Any]
    source: Literal["page", "note"]
    at_s: float

    def shard(self, shard_id: str) -> Mapping[str, Any]:
        """What it reports about a shard; empty if nothing."""
        found = _mapping(self.stats.get("by_shard")).get(shard_id)
        return found if isinstance(found, Mapping) else {}

    def old_s(self, now_s: float) -> float:
        """Age of the report: 0 for a page; a note is written every few seconds. A difference of the clocks does not
        make it older."""
        return 0.0 if self.source == PAGE else min(max(0.0, now_s - self.at_s), 2 * EVERY_S)

    def number(self, name: str) -> float | None:
        """A number from the report; None if it is missing."""
        return number(self.stats.get(name))

    def text(self, name: str) -> str | None:
        """A text from the report; None if it is missing."""
        value = self.stats.get(name)
        return value if isinstance(value, str) else None

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object from the report; empty if it is missing."""
        return _mapping(self.stats.get(name))

    def objects(self, name: str) -> list[Mapping[str, Any]]:
        """A list of objects from the report."""
        found = self.stats.get(name)
        return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


@dataclass(frozen=True)
class Snapshot:
    """``at_s``: epoch seconds of the look. ``known``: the stream's shards. ``said``: by worker id.

    ``gone``: workers whose machine answers but refuses connections to the page.
    ``behind_s``: how far shards are behind, read from the stream, for shards that no worker reports.
    """

    at_s: float
    state: ApplicationState
    known: Mapping[str, KnownShard]
    said: Mapping[str, WorkerSaid] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    behind_s: Mapping[str, float] = field(default_factory=dict)
    arrival_rate: float | None = None
    """Records put on the stream per second, from CloudWatch; None if unknown."""

    @cached_property
    def leases(self) -> dict[str, Lease]:
        """The leases of the lease table, by shard id."""
        return {lease.shard_id: lease for lease in self.state.leases}

    def of_shard(self, lease: Lease | None) -> WorkerSaid | None:
        """What the shard's present reader reports; None if it reports nothing about the shard."""
        said = self.said.get(lease.holder) if lease is not None else None
        return said if said is not None and lease is not None and said.shard(lease.shard_id) else None

    def arrival_rate_of(self, lease: Lease | None) -> float | None:
        """Records put on the shard per second, as its reader derives them; None if it does not."""
        said = self.of_shard(lease)
        return number(said.shard(lease.shard_id).get("arrival_rate")) if said is not None and lease else None


def number(value: object) -> float | None:
    """A finite number unchanged, None for anything else: another process may have sent anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        return None
    return float(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
