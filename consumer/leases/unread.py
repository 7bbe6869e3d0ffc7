"""Finds shards that should be read and are not, by comparing the stream's shards, the leases and this task's sessions.

Pure: observations go in with their time, problems come out. A shard is read if it has a lease, a worker that renews it,
and a session there that gets messages from KCL. If one of these is missing for longer than a handoff or a restart
takes, one task reports it: the owner of the lease or, without an owner, the leader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from consumer.aws.shards import KnownShard, number
from consumer.leases.leases import Lease
from consumer.leases.seed import holes

READY_S = 30.0
"""Seconds that a new lease of a ready task may be unread before the task is no longer ready."""

TOLD_S = 60.0
"""Seconds after which a problem is reported, long before ``/healthz`` fails for it."""


@dataclass(frozen=True, slots=True)
class StreamObservation:
    """One observation. ``hearing``: shards whose session here has had a message. ``leader`` is empty if there is
    none."""

    known: Mapping[str, KnownShard]
    leases: Mapping[str, Lease]
    hearing: Collection[str]
    leader: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """The problems that this task must report, with reasons by shard.

    ``told`` has those that last, ``red`` those for which ``/healthz`` fails. ``refused``: shards of this task that KCL
    does not start to read. ``expired``: leases of shards that expired before they were read to the end. ``unready``:
    why the task is not ready.
    """

    red: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    expired: tuple[Lease, ...] = ()
    unready: str | None = "the leases have not been looked at yet"


@dataclass(frozen=True, slots=True)
class _Lack:
    """A problem. It counts as the same one as long as ``mark`` does not change."""

    reason: str
    mark: object = None
    ours: bool = False


class UnreadWatch:
    """Compares observations. ``me``: this worker. ``after_s``: seconds unread after which ``/healthz`` fails."""

    def __init__(self, me: str, after_s: float) -> None:
        self._me = me
        self._after_s = after_s
        self._since: dict[str, tuple[_Lack, float]] = {}
        self._was_ready = False
        self._expired: set[str] = set()

    def look(self, look: StreamObservation, now: float) -> Unread:
        """Take in an observation. Each reason is one line and names the shard."""
        lacks = self._lacks(look)
        self._since = {shard_id: self._kept(shard_id, lack, now) for shard_id, lack in lacks.items()}
        leads = look.leader in ("", self._me)
        lasting = {shard_id: (lack, now - since_s) for shard_id, (lack, since_s) in self._since.items()}
        mine = {shard_id: each for shard_id, each in lasting.items() if each[0].ours or leads}
        unready = self._unready(look, lasting)
        self._was_ready = self._was_ready or unready is None
        return Unread(
            red=_reasons(mine, self._after_s),
            told=_reasons(lasting, min(TOLD_S, self._after_s)),
            refused=tuple(shard_id for shard_id, (lack, _) in lasting.items() if lack.ours),
            expired=tuple(self._new_expired(look, leads=leads)),
            unready=unready,
        )

    def _kept(self, shard_id: str, lack: _Lack, now: float) -> tuple[_Lack, float]:
        before = self._since.get(shard_id)
        return (lack, before[1]) if before is not None and before[0].mark == lack.mark else (lack, now)

    def _lacks(self, look: StreamObservation) -> dict[str, _Lack]:
        """What each unread shard lacks now. A lease that moves is read, or about to be."""
        lacks = {shard_id: _Lack("it has no lease") for shard_id in holes(look.known, look.leases.values())}
        for lease in look.leases.values():
            if lease.ended and lease.shard_id in look.known and look.known[lease.shard_id].open:
                lacks[lease.shard_id] = _Lack("it is open, and its lease says that it was read to its end")
            if not _may_be_read(lease, look):
                continue
            if lease.holder != self._me:
                lacks[lease.shard_id] = _Lack(_not_renewed(lease), (lease.holder, lease.counter))
            elif lease.shard_id not in look.hearing:
                reason = "it has its lease here, and KCL does not begin to read it"
                lacks[lease.shard_id] = _Lack(reason, "ours", ours=True)
        return lacks

    def _unready(self, look: StreamObservation, lasting: Mapping[str, tuple[_Lack, float]]) -> str | None:
        """A task is ready if it reads all shards that it holds, or if other tasks hold every shard."""
        ours = {shard_id: lasted_s for shard_id, (lack, lasted_s) in lasting.items() if lack.ours}
        waiting = [shard_id for shard_id, lasted_s in ours.items() if not self._was_ready or lasted_s >= READY_S]
        if waiting:
            return f"{', '.join(sorted(waiting))}: not read yet"
        held = any(lease.holder == self._me for lease in look.leases.values() if not lease.ended)
        free = [lease for lease in look.leases.values() if not lease.holder and _may_be_read(lease, look)]
        if not held and (free or not look.leases):
            return "no lease yet"
        return None

    def _new_expired(self, look: StreamObservation, *, leads: bool) -> Iterable[Lease]:
        found = {lease.shard_id: lease for lease in expired(look.known, look.leases.values())}
        new = [lease for shard_id, lease in found.items() if shard_id not in self._expired]
        self._expired |= found.keys()
        return [lease for lease in new if lease.holder == self._me or (leads and not lease.holder)]


def expired(known: Mapping[str, KnownShard], leases: Iterable[Lease]) -> list[Lease]:
    """Leases not at their ends of shards that Kinesis no longer lists: their remaining records are lost. Pure."""
    youngest = max((number(shard_id) or 0 for shard_id in known), default=-1)
    return [
        lease
        for lease in leases
        if not lease.ended and lease.shard_id not in known and (number(lease.shard_id) or 0) < youngest
    ]


def _may_be_read(lease: Lease, look: StreamObservation) -> bool:
    """Not ended, still listed, and no parent left to read: KCL starts a shard after its parents."""
    if lease.ended or lease.shard_id not in look.known:
        return False
    parents = [look.leases[parent] for parent in lease.parents if parent in look.leases and parent in look.known]
    return all(parent.ended for parent in parents)


def _not_renewed(lease: Lease) -> str:
    return f"{lease.holder} has its lease and does not renew it" if lease.holder else "no worker holds its lease"


def _reasons(lasting: Mapping[str, tuple[_Lack, float]], at_least_s: float) -> dict[str, str]:
    return {
        shard_id: f"{shard_id} is not read: {lack.reason} (for {lasted_s:.0f} s)"
        for shard_id, (lack, lasted_s) in sorted(lasting.items())
        if lasted_s >= at_least_s
    }
