"""Which workers are alive. Pure.

A worker has three signs of life: its report among KCL's metrics, its note beside the leases, and the counters of the
leases that it renews. The first two have times by the worker's own clock, which may be wrong; a change between two
looks is a sign of life in any case. If the health page refuses the connection, the worker is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from consumer.admin.status.snapshot import Snapshot
from consumer.leases.state import NOTED_S, REPORTED_S

RENEWED_S = 10.0
"""A lease is renewed every third of failover_ms, which is 10 seconds by default."""

HIDDEN_S = 600.0
"""A worker without leases that has been silent for longer is not shown: KCL deletes its report later."""


@dataclass(frozen=True, slots=True)
class WorkerLiveness:
    """``seen_s``: epoch seconds of the last sign of life; None if none. ``reports``: whether it is in KCL's metrics."""

    worker: str
    alive: bool
    seen_s: float | None
    reports: bool


def liveness(looks: Sequence[Snapshot]) -> dict[str, WorkerLiveness]:
    """The state of every worker in the last look. ``looks``: the earliest first."""
    moves = [(before, after, _renewers(before, after)) for before, after in pairwise(looks)]
    moves.reverse()
    return {worker: _liveness(worker, looks[-1], moves) for worker in sorted(_workers(looks[-1]))}


LookChange = tuple[Snapshot, Snapshot, set[str]]
"""Two consecutive looks, and the workers that renewed leases between them."""


def _workers(look: Snapshot) -> set[str]:
    holders = {name for lease in look.state.leases for name in (lease.owner, lease.draining_owner) if name}
    leader = {look.state.leader.worker} if look.state.leader is not None else set()
    return holders | leader | look.state.workers.keys() | look.said.keys()


def _liveness(worker: str, now: Snapshot, moves: Sequence[LookChange]) -> WorkerLiveness:
    """``moves``: the latest first."""
    limit_s = NOTED_S if worker in now.said else REPORTED_S
    told = [at_s for at_s in (_reported_s(worker, now), _noted_s(worker, now)) if at_s is not None]
    moved = _last_move_s(worker, moves, gone=worker in now.gone)
    recent = bool(told) and now.at_s - max(told) <= limit_s and worker not in now.gone
    renews = moved is not None and now.at_s - moved <= RENEWED_S
    signs = [*told, *([moved] if moved is not None else [])]
    metrics = now.state.workers.get(worker)
    return WorkerLiveness(
        worker, recent or renews, max(signs, default=None), metrics is not None and not metrics.failing
    )


def _reported_s(worker: str, look: Snapshot) -> float | None:
    found = look.state.workers.get(worker)
    return None if found is None or found.reported_s is None else float(found.reported_s)


def _noted_s(worker: str, look: Snapshot) -> float | None:
    said = look.said.get(worker)
    return None if said is None else said.at_s


def _last_move_s(worker: str, moves: Sequence[LookChange], *, gone: bool) -> float | None:
    """Return the time of the look that first showed a change by the worker. If its page now refuses connections (it is
    in ``gone``), only later changes count."""
    for before, after, renewers in moves:
        if gone and worker not in before.gone:
            return None
        told = (_reported_s, _noted_s)
        if worker in renewers or any(_later(each(worker, before), each(worker, after)) for each in told):
            return after.at_s
    return None


def _later(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after > before


def _renewers(before: Snapshot, after: Snapshot) -> set[str]:
    leases = before.leases
    return {
        lease.holder
        for lease in after.state.leases
        if (old := leases.get(lease.shard_id)) is not None
        and old.holder == lease.holder
        and old.counter != lease.counter
    }
