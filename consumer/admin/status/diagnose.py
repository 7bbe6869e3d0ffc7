"""Turns what was read into a status: :func:`diagnose` is pure, and gets the reads (looks) in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from consumer.admin.status.liveness import HIDDEN_S, WorkerLiveness, liveness
from consumer.admin.status.reasons import View, parents_left, why
from consumer.admin.status.report import Kind, ShardStatus, Status, Totals, Trend, Why, WorkerStatus
from consumer.admin.status.snapshot import Snapshot, WorkerSaid, number
from consumer.leases.leases import Lease
from consumer.poison.doubt import parsed
from consumer.poison.notes import NOTE
from pipeline.flow.progress import slope

CAUGHT_UP_S = 2.0
"""A shard that is no further behind is caught up: this is the time that a record takes through the task."""

MOVES = 0.05
"""Change of the lag, in seconds per second, from which a trend is not steady."""

LOOKS_S = 120.0
"""Seconds after which an earlier look is not used any more."""


def diagnose(stream: str, snapshot: Snapshot, earlier: Sequence[Snapshot] = ()) -> Status:
    """The status at the last look; ``earlier`` looks, the oldest first, add trends."""
    looks = [look for look in earlier if snapshot.at_s - look.at_s <= LOOKS_S] + [snapshot]
    view = View(looks, liveness(looks))
    shards = tuple(_shards(view))
    workers = tuple(_workers(view))
    state = snapshot.state
    return Status(
        stream=stream,
        application=state.application,
        at_s=snapshot.at_s,
        layout=state.layout,
        migration=state.migration.table,
        leader=state.leader.worker if state.leader is not None else None,
        totals=_totals(view, shards, workers),
        shards=shards,
        workers=workers,
    )


# -- shards


def _shards(view: View) -> Iterable[ShardStatus]:
    leases, known = view.leases, view.now.known
    for shard_id in sorted(leases.keys() | known.keys()):
        lease = leases.get(shard_id)
        if lease is None:
            if known[shard_id].open and not set(known[shard_id].parents) & _to_read(view):
                yield _without_lease(shard_id)
        elif not lease.ended:
            yield _shard(lease, view)


def _to_read(view: View) -> set[str]:
    """Shards at whose ends KCL will create their children's leases."""
    return {shard_id for shard_id, lease in view.leases.items() if not lease.ended}


def _without_lease(shard_id: str) -> ShardStatus:
    reason = Why(Kind.NO_LEASE, "it has no lease yet; the leader creates one")
    return ShardStatus(shard_id, True, None, None, None, None, None, None, None, "none", None, (), reason)


def _shard(lease: Lease, view: View) -> ShardStatus:
    now = view.now
    read = lease.holder in view.liveness and view.liveness[lease.holder].alive
    said = now.of_shard(lease) if read else None
    behind_s = _behind_s(lease.shard_id, now, said)
    moves = _slope(lease.shard_id, view, said)
    known = now.known.get(lease.shard_id)
    counts = said.shard(lease.shard_id) if said is not None else {}
    unsettled = number(counts.get("unsettled"))
    at_tip = number(counts.get("lag_s")) == 0
    return ShardStatus(
        shard_id=lease.shard_id,
        open=known is not None and known.open,
        owner=lease.owner or None,
        drained_by=lease.draining_owner or None,
        records_behind=int(unsettled) if unsettled is not None and at_tip else None,
        behind_s=behind_s,
        trend=trend(behind_s, moves),
        caught_up_in_s=caught_up_in_s(behind_s, moves),
        rate=number(counts.get("rate")) if read else 0.0,
        checkpoint=str(lease.checkpoint or lease.sentinel),
        checkpoint_age_s=_checkpoint_age_s(lease, view, said),
        parents=parents_left(lease, view),
        why=why(lease, said, view),
        skips=tuple(str(each) for each in parsed(lease.raw.get(NOTE, {}).get("S", "")).skips),
    )


def _behind_s(shard_id: str, look: Snapshot, said: WorkerSaid | None) -> float | None:
    if said is None:
        return look.behind_s.get(shard_id)
    return number(said.shard(shard_id).get("behind_s"))


def _slope(shard_id: str, view: View, said: WorkerSaid | None) -> float | None:
    """From the worker's own history; without it, from the looks."""
    if said is not None and (told := number(said.shard(shard_id).get("slope"))) is not None:
        return told
    points = [
        (look.at_s, behind_s)
        for look in view.looks
        if (behind_s := _behind_s(shard_id, look, look.of_shard(look.leases.get(shard_id)))) is not None
    ]
    return slope(points)


def trend(behind_s: float | None, moves: float | None) -> Trend | None:
    """``moves``: change of the lag in seconds per second. None if either is unknown."""
    if behind_s is None or moves is None:
        return None
    if abs(moves) < MOVES or (moves < 0 and behind_s <= CAUGHT_UP_S):
        return Trend.STEADY
    return Trend.GROWING if moves > 0 else Trend.SHRINKING


def caught_up_in_s(behind_s: float | None, moves: float | None) -> float | None:
    """0 for a shard that is caught up; None if it does not catch up, or if unknown."""
    if behind_s is None:
        return None
    if behind_s <= CAUGHT_UP_S:
        return 0.0
    return behind_s / -moves if moves is not None and moves <= -MOVES else None


def _checkpoint_age_s(lease: Lease, view: View, said: WorkerSaid | None) -> float | None:
    """As the worker reports it. Without a worker: since the last look that had another checkpoint, if there is one."""
    if said is not None and (told := number(said.shard(lease.shard_id).get("checkpoint_age_s"))) is not None:
        return told + said.old_s(view.now.at_s)
    now = view.now.at_s
    for look in reversed(view.looks[:-1]):
        before = look.leases.get(lease.shard_id)
        if before is None or (before.checkpoint, before.sentinel) != (lease.checkpoint, lease.sentinel):
            return now - look.at_s
    return None


# -- workers


def _workers(view: View) -> Iterable[WorkerStatus]:
    left = [lease for lease in view.now.state.leases if not lease.ended]
    for life in view.liveness.values():
        held = sum(lease.holder == life.worker for lease in left)
        promised = any(lease.owner == life.worker for lease in left)
        silent = life.seen_s is None or view.now.at_s - life.seen_s > HIDDEN_S
        leads = view.leader is not None and view.leader.worker == life.worker
        if life.alive or held or promised or leads or not silent:
            yield _worker(life, held, view, leads=leads)


def _worker(life: WorkerLiveness, held: int, view: View, *, leads: bool) -> WorkerStatus:
    said = view.now.said.get(life.worker)
    return WorkerStatus(
        worker=life.worker,
        alive=life.alive,
        leader=leads,
        leases=held,
        seen_s_ago=None if life.seen_s is None else max(0.0, view.now.at_s - life.seen_s),
        batch_size=said.number("mean_batch") if said and said.number("batches") else None,
        busy=said.number("busy") if said else None,
        efficiency=said.number("efficiency") if said else None,
        version=_version(said),
        source=said.source if said else None,
        problems=tuple(_problems(life, view, said)),
    )


def _version(said: WorkerSaid | None) -> str | None:
    """The versions of Penstock and of the model that a worker reports."""
    names = [said.text("penstock"), said.text("model_version")] if said is not None else []
    return ", ".join(filter(None, names)) or None


def _problems(life: WorkerLiveness, view: View, said: WorkerSaid | None) -> Iterable[str]:
    if not life.alive:
        yield "dead"
    elif not life.reports:
        metrics = view.now.state.workers.get(life.worker)
        yield f"reports no metric ({', '.join(metrics.failing)})" if metrics else "reports no metric"
    if said is not None:
        if said.stats.get("leaving") is True:
            yield "leaving"
        yield from (f"{each.get('part')}: {each.get('reason')}" for each in said.objects("outages"))


# -- totals


def _totals(view: View, shards: Sequence[ShardStatus], workers: Sequence[WorkerStatus]) -> Totals:
    read = [shard for shard in shards if not shard.parents]
    behind = [shard.behind_s for shard in read]
    last = max(read, key=lambda shard: shard.behind_s or 0.0, default=None)
    late = [shard.caught_up_in_s for shard in read]
    still = [shard for shard in shards if shard.why is not None and shard.why.kind is not Kind.NO_NEW_RECORDS]
    arrivals = [view.now.arrival_rate_of(view.leases.get(shard.shard_id)) for shard in read]
    return Totals(
        open_shards=sum(shard.open for shard in view.now.known.values()),
        shards_to_read=len(shards),
        shards_ended=sum(lease.ended for lease in view.now.state.leases),
        standing_still=len(still),
        workers_alive=sum(worker.alive for worker in workers),
        workers=len(workers),
        behind_s=_all(behind, max),
        trend=last.trend if last is not None and None not in behind else None,
        caught_up_in_s=_all(late, max),
        rate=_all([shard.rate for shard in read], sum),
        arrival_rate=_all(arrivals, sum) if view.now.arrival_rate is None else view.now.arrival_rate,
    )


def _all(values: Sequence[float | None], total: Callable[[Iterable[float]], float]) -> float | None:
    """The sum; None if one is unknown, or if there are none."""
    known = [value for value in values if value is not None]
    return total(known) if known and len(known) == len(values) else None
