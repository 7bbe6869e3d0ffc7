"""Decides when a leader is dead, and what to do then. Pure: takes what was read with its times, returns a decision.

Among KCL's workers only the leader assigns leases. A killed leader leaves its lock behind, which KCL respects for 120
seconds; in that time no worker reads the shards that it had. So every worker watches the leader, and considers it dead
when *none* of its signs of life has changed for long enough:

- the version of its lock, renewed every 30 seconds (``DynamoDBLockBasedLeaderDecider``);
- its report among the worker metrics, every 5 seconds (``consumer.config.kcl_properties.WORKER_REPORT_MS``);
- the counter of every lease that it holds, every third of ``failover_ms`` (``DynamoDBLeaseCoordinator``).

Then its leases are passed to living workers and its lock is deleted, each by a write that is conditional on what was
read.

Why that is safe:

- *Living workers keep their leases.* A lease is only taken if it has not been renewed for longer than ``failover_ms``,
  which is KCL's own rule for taking leases. All times are of this worker's monotonic clock, from the end of the first
  read that showed a value to the start of the last one that did. No other clock is involved. If this worker could not
  read for a while (DynamoDB unreachable, this worker frozen), the watch starts again.
- *A frozen leader that resumes* finds other counters on its leases and no lock: its renewals, checkpoints and
  heartbeats are conditional on both, and fail.
- *Two leaders at once* are possible for 30 seconds, until the heartbeat of the old one fails. A leader protects no
  data. It assigns leases by conditional writes: two leaders cause a few refused writes and moved leases.
- *Two readers of a shard at once*, which KCL never excludes, cannot duplicate or lose a record: exactly-once depends
  on the chain of files (``docs/exactly-once.md``), not on leases.
- *All workers may do this at once.* If two pass on the same lease, the second write is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from consumer.leases.leases import Lease, load_of
from consumer.leases.reassign import OrphanedLease

LEAST_SILENCE_S = 10.0
MARGIN_S = 2.0
"""Seconds by which a lease is taken later than KCL would take it."""

REPORTS_MISSED = 1.5
"""Number of missed reports after which all workers and leases are read (a close look)."""

HEARTBEATS_S = 40.0
"""The same for a leader that has never reported: its lock changes every 30 seconds."""

GAP_S = 10.0
"""Two looks that are further apart prove nothing about the time between them."""


@dataclass(frozen=True, slots=True)
class LeaderObservation:
    """What was read between ``began_s`` and ``ended_s``.

    ``leader`` and ``version`` are those of the lock, empty if no worker has it. ``reports``: the last report of each
    worker, in a glance only the leader's. ``leases`` is None in a glance.
    """

    began_s: float
    ended_s: float
    leader: str
    version: str
    reports: Mapping[str, int]
    leases: Mapping[str, Lease] | None = None


@dataclass(frozen=True, slots=True)
class Takeover:
    """The leader is dead: pass ``holdings`` on to the workers in ``load``, then delete its lock and its report.

    ``holdings`` are those of every worker without a sign of life, and leases that others drain for the leader.
    """

    leader: str
    version: str
    report: int | None
    holdings: tuple[OrphanedLease, ...]
    load: Counter[str]
    silent_s: float


class LeaderWatch:
    """``report_s``: how often workers report. ``me`` is this worker, which does not watch itself."""

    def __init__(self, me: str, *, failover_s: float, report_s: float) -> None:
        self._me = me
        self._silence_s = max(failover_s, LEAST_SILENCE_S, 2 * report_s) + MARGIN_S
        self._quiet_s = REPORTS_MISSED * report_s
        self._report_s = report_s
        self._last: LeaderObservation | None = None
        self._sign_s = 0.0
        self._close_s: float | None = None
        self._reported_s: dict[str, float] = {}
        self._still: dict[str, tuple[Lease, float]] = {}
        self.close = False
        """Whether the next look must be a close one: with all leases and all reports."""

    def look(self, look: LeaderObservation) -> Takeover | None:
        """Take in what was read. Call it with looks in their order, and with a close one whenever ``close`` is true."""
        before, self._last = self._last, look
        if look.leader in {"", self._me} or before is None or _apart(before, look) or _signs_of_life(before, look):
            self._forget(look)
            return None
        if look.leases is None:
            quiet_s = self._quiet_s if look.leader in look.reports else HEARTBEATS_S
            self.close = look.began_s - self._sign_s >= quiet_s
            return None
        if self._close_s is None:
            self._close_s = look.ended_s
        self._compare(before, look, look.leases)
        return self._takeover(look, look.leases, look.began_s - self._close_s)

    def _forget(self, look: LeaderObservation) -> None:
        self.close = False
        self._sign_s = look.ended_s
        self._close_s = None
        self._reported_s.clear()
        self._still.clear()

    def _compare(self, before: LeaderObservation, look: LeaderObservation, leases: Mapping[str, Lease]) -> None:
        """Since when each lease has not changed, and when each worker has reported during the close looks."""
        seen, self._still = self._still, {}
        for shard_id, lease in leases.items():
            old = seen.get(shard_id)
            self._still[shard_id] = (lease, old[1] if old and _same(old[0], lease) else look.ended_s)
        if before.leases is not None:
            moved = [who for who, at in look.reports.items() if before.reports.get(who, at) != at]
            self._reported_s.update(dict.fromkeys(moved, look.ended_s))

    def _takeover(self, look: LeaderObservation, leases: Mapping[str, Lease], watched_s: float) -> Takeover | None:
        expired = {shard for shard, (_, since_s) in self._still.items() if look.began_s - since_s >= self._silence_s}
        held = {shard for shard, lease in leases.items() if lease.holder == look.leader}
        if watched_s < self._silence_s or not held <= expired:
            return None
        alive = {who for who, at_s in self._reported_s.items() if look.began_s - at_s < 2 * self._report_s}
        dead = [leases[shard] for shard in sorted(expired) if leases[shard].holder not in alive | {""}]
        promised = [lease for lease in leases.values() if lease.owner == look.leader != lease.holder]
        return Takeover(
            leader=look.leader,
            version=look.version,
            report=look.reports.get(look.leader),
            holdings=(
                *(lease.left_by(lease.holder, lease.counter) for lease in dead),
                *(lease.left_by(look.leader) for lease in promised if lease not in dead),
            ),
            load=load_of(leases.values(), alive),
            silent_s=look.began_s - self._sign_s,
        )


def _apart(before: LeaderObservation, look: LeaderObservation) -> bool:
    return look.ended_s - before.ended_s > GAP_S


def _signs_of_life(before: LeaderObservation, look: LeaderObservation) -> bool:
    """Whether the leader has changed anything between the two looks, or there is another leader."""
    if (before.leader, before.version) != (look.leader, look.version):
        return True
    if before.reports.get(look.leader) != look.reports.get(look.leader):
        return True
    if before.leases is None or look.leases is None:
        return False
    return any(_renewed(before.leases.get(shard_id), lease, look.leader) for shard_id, lease in look.leases.items())


def _renewed(before: Lease | None, lease: Lease, leader: str) -> bool:
    """Leases that others gave to the leader or took from it in the meantime are no sign of the leader's life."""
    return before is not None and before.holder == lease.holder == leader and before.counter != lease.counter


def _same(old: Lease, lease: Lease) -> bool:
    return (old.owner, old.draining_owner, old.counter) == (lease.owner, lease.draining_owner, lease.counter)
