"""Why a shard makes no progress: the first reason that applies, of :class:`consumer.admin.status.report.Kind`.

Pure. Each reason is a function of one shard; :data:`REASONS` has their order. A shard that makes progress has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from consumer.admin.status.liveness import WorkerLiveness
from consumer.admin.status.report import Kind, Why
from consumer.admin.status.snapshot import Snapshot, WorkerSaid, number
from consumer.leases.leases import Lease
from consumer.poison.doubt import parsed
from consumer.poison.notes import NOTE

ASSIGNED_S = 20
"""Seconds between two assignments of leases by KCL's leader: twice kcl.failover_ms, with its default."""

STUCK_S, STUCK_BATCHES = 10.0, 4
"""A model is stuck if it has had a batch for longer than this, and for this many times as long as its slow batches."""

FIRST_BATCH_S = 30.0
"""The same, before the first batch has returned."""

IDLE_S = 10.0
"""Seconds without a record after which a shard that is read to its end has no new records."""

STILL_S = 30.0
"""Seconds without a change of the checkpoint after which a shard makes no progress."""


@dataclass(frozen=True)
class View:
    """The last look at the application, and the earlier ones."""

    looks: Sequence[Snapshot]
    liveness: Mapping[str, WorkerLiveness]

    @property
    def now(self) -> Snapshot:
        """The snapshot of the last look."""
        return self.looks[-1]

    @cached_property
    def leases(self) -> dict[str, Lease]:
        """The leases in the last snapshot, by shard id."""
        return self.now.leases

    @cached_property
    def load(self) -> dict[str, int]:
        """Leases not read to their end, by owner."""
        load: dict[str, int] = {}
        for lease in self.now.state.leases:
            if lease.owner and not lease.ended:
                load[lease.owner] = load.get(lease.owner, 0) + 1
        return load

    @property
    def living(self) -> list[WorkerLiveness]:
        """The workers that are alive."""
        return [life for life in self.liveness.values() if life.alive]

    @property
    def leader(self) -> WorkerLiveness | None:
        """The worker that has the leader's lock, dead or alive."""
        leader = self.now.state.leader
        return self.liveness.get(leader.worker) if leader is not None else None

    def seen_since_s(self, test: Callable[[Lease | None], bool], shard_id: str) -> float:
        """Return the time since which ``test`` has been true of the shard's lease in every look."""
        since_s = self.now.at_s
        for look in reversed(self.looks):
            if not test(look.leases.get(shard_id)):
                break
            since_s = look.at_s
        return since_s


@dataclass(frozen=True, slots=True)
class ReadShard:
    """The input of a reason: a lease that is not at its end, and what its reader reports."""

    lease: Lease
    said: WorkerSaid | None
    view: View

    @property
    def waits(self) -> bool:
        """Whether records of this shard are waiting: some are held, or it is behind."""
        if self.said is None:
            return False
        counts = self.said.shard(self.lease.shard_id)
        names = ("unsettled", "held_bytes", "lag_s")
        return any((number(counts.get(name)) or 0) > 0 for name in names)


def why(lease: Lease, said: WorkerSaid | None, view: View) -> Why | None:
    """Return the reason; None if the shard makes progress, as far as is known."""
    shard = ReadShard(lease, said, view)
    return next(filter(None, (reason(shard) for reason in REASONS)), None)


def parents_left(lease: Lease, view: View) -> tuple[str, ...]:
    """Return the parents that must be read to their ends before this shard starts."""
    if lease.checkpoint is not None:
        return ()
    leases = view.leases
    return tuple(name for name in lease.parents if name in leases and not leases[name].ended)


def _parent(shard: ReadShard) -> Why | None:
    left = parents_left(shard.lease, shard.view)
    return Why(Kind.PARENT, f"waits for parent {', '.join(left)}") if left else None


def _handoff(shard: ReadShard) -> Why | None:
    lease, view = shard.lease, shard.view
    if not lease.draining_owner or not _lives(view, lease.draining_owner):
        return None

    def same(then: Lease | None) -> bool:
        return then is not None and (then.draining_owner, then.owner) == (lease.draining_owner, lease.owner)

    since_s = min(view.seen_since_s(same, lease.shard_id), *_told_since(shard))
    text = f"handoff from {lease.draining_owner} to {lease.owner} pending"
    return Why(Kind.HANDOFF, text, since_s)


def _told_since(shard: ReadShard) -> list[float]:
    """Since when workers have seen the handoff pending; each looks every ten seconds."""
    view = shard.view
    lasted = [number(said.mapping("handoffs_s").get(shard.lease.shard_id)) for said in view.now.said.values()]
    return [view.now.at_s - each for each in lasted if each is not None] or [view.now.at_s]


def _nobody(shard: ReadShard) -> Why | None:
    """It has no owner, or a dead one; the leader will give it to another worker."""
    lease, view = shard.lease, shard.view
    if lease.holder and _lives(view, lease.holder):
        return None
    leader = view.leader
    if leader is None or not leader.alive:
        return _leaderless(lease, leader)
    if lease.holder:
        text = f"owner {lease.holder} is dead; leader {leader.worker} gives it to another worker"
        return Why(Kind.OWNER_DEAD, text, view.liveness[lease.holder].seen_s if lease.holder in view.liveness else None)
    return _nobody_may(view) or Why(Kind.NO_OWNER, f"no owner; leader {leader.worker} assigns it within {ASSIGNED_S} s")


def _leaderless(lease: Lease, leader: WorkerLiveness | None) -> Why:
    """No worker assigns leases until another one has the leader's lock."""
    if leader is None:
        whose = f"owner {lease.holder} is dead" if lease.holder else "no owner"
        return Why(Kind.LEADER_DEAD, f"{whose}, and there is no leader")
    other = lease.holder and lease.holder != leader.worker
    whose = f"owner {lease.holder} is dead" if other else "no owner"
    return Why(Kind.LEADER_DEAD, f"{whose}, leader {leader.worker} dead", leader.seen_s)


def _nobody_may(view: View) -> Why | None:
    """Why no living worker gets a free lease."""
    able = [life for life in view.living if not _is_full(view, life.worker)]
    if view.living and not able:
        return Why(Kind.MAX_LEASES, "no owner: every worker is at max_leases")
    dumb = [life.worker for life in able if not life.reports]
    if dumb and len(dumb) == len(able):
        return Why(Kind.NO_METRIC, f"no owner: worker {', '.join(dumb)} reports no metric, so it gets no lease")
    return None


def _is_full(view: View, worker: str) -> bool:
    said = view.now.said.get(worker)
    most = said.number("max_leases") if said is not None else None
    return bool(most) and view.load.get(worker, 0) >= (most or 0)


def _bisecting(shard: ReadShard) -> Why | None:
    lease, now = shard.lease, shard.view.now
    note = lease.raw.get(NOTE, {}).get("S", "")
    if note and parsed(note).doubtful:
        return Why(Kind.BISECTING, "a record is being bisected: it ended tasks, and the shard is read carefully")
    if shard.said is None:
        return None
    for batch in _batches(shard):
        if (number(batch.get("tries")) or 0) > 0:
            since_s = now.at_s - (number(batch.get("age_s")) or 0)
            return Why(Kind.BISECTING, "a record is being bisected", since_s)
    return None


def _model(shard: ReadShard) -> Why | None:
    """The oldest batch has taken too long, or no replica serves."""
    said, now = shard.said, shard.view.now
    if said is None:
        return None
    if outage := next((each for each in said.objects("outages") if each.get("kind") == "model"), None):
        return Why(Kind.MODEL_STUCK, f"the model is stuck: {outage.get('reason')}", _since(outage, now))
    usual_s = said.number("batch_p99_s") or 0
    limit_s = max(STUCK_S, STUCK_BATCHES * usual_s) if usual_s else FIRST_BATCH_S
    ages = [age for batch in said.objects("batches_out") if (age := number(batch.get("age_s"))) is not None]
    oldest_s = max(ages, default=0.0) + said.old_s(now.at_s)
    if ages and shard.waits and oldest_s >= limit_s:
        return Why(Kind.MODEL_STUCK, "the model is stuck: a batch does not return", now.at_s - oldest_s)
    return None


def _sink(shard: ReadShard) -> Why | None:
    said = shard.said
    if said is None or not shard.waits:
        return None
    for outage in said.objects("outages"):
        if outage.get("kind") == "sink":
            text = f"the sink is refused: {outage.get('part')}: {outage.get('reason')}"
            return Why(Kind.SINK_REFUSED, text, _since(outage, shard.view.now))
    return None


def _not_begun(shard: ReadShard) -> Why | None:
    """KCL does not start it, or its worker reports no progress for health.stuck_after_s."""
    owner = shard.view.now.said.get(shard.lease.holder)
    if owner is None:
        return None
    for name in ("unread", "stuck"):
        if text := owner.mapping(name).get(shard.lease.shard_id):
            return Why(Kind.NOT_BEGUN, str(text))
    return None


def _idle(shard: ReadShard) -> Why | None:
    lease, view = shard.lease, shard.view
    if shard.said is None:
        still = view.seen_since_s(lambda then: then is not None and _place(then) == _place(lease), lease.shard_id)
        if view.now.behind_s.get(lease.shard_id) == 0 and view.now.at_s - still >= IDLE_S:
            return Why(Kind.NO_NEW_RECORDS, "the stream has no new records", still)
        return None
    counts = shard.said.shard(lease.shard_id)
    idle_s, settled = number(counts.get("idle_s")), number(counts.get("unsettled")) == 0
    if number(counts.get("lag_s")) != 0 or not settled or idle_s is None or idle_s < IDLE_S:
        return None
    return Why(Kind.NO_NEW_RECORDS, "the stream has no new records", view.now.at_s - idle_s)


def _unexplained(shard: ReadShard) -> Why | None:
    """Its checkpoint does not move, it is behind, and no known reason applies."""
    lease, view = shard.lease, shard.view
    still = view.seen_since_s(lambda then: then is not None and _place(then) == _place(lease), lease.shard_id)
    behind = view.now.behind_s.get(lease.shard_id, 0) > 0 if shard.said is None else shard.waits
    moves = shard.said is not None and (number(shard.said.shard(lease.shard_id).get("rate")) or 0) > 0
    if not behind or moves or view.now.at_s - still < STILL_S:
        return None
    return Why(Kind.UNKNOWN, "unknown: its checkpoint does not move", still)


REASONS: tuple[Callable[[ReadShard], Why | None], ...] = (
    _parent,
    _nobody,
    _handoff,
    _bisecting,
    _model,
    _sink,
    _not_begun,
    _idle,
    _unexplained,
)


def _batches(shard: ReadShard) -> list[Mapping[str, object]]:
    """The batches in the model that hold records of this shard."""
    found = shard.said.objects("batches_out") if shard.said is not None else []
    return [batch for batch in found if shard.lease.shard_id in (batch.get("shards") or ())]


def _since(outage: Mapping[str, object], now: Snapshot) -> float | None:
    lasted_s = number(outage.get("for_s"))
    return None if lasted_s is None else now.at_s - lasted_s


def _lives(view: View, worker: str) -> bool:
    return worker in view.liveness and view.liveness[worker].alive


def _place(lease: Lease) -> object:
    return lease.checkpoint or lease.sentinel
