"""Moves the leases of one application to another time: reads, plans and writes. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.admin.replay import lease_writes, undo
from consumer.admin.replay.arrivals import facts_of, oldest_after
from consumer.admin.replay.carry_out import LeaseTable
from consumer.admin.replay.rewind import EARLIEST_MS, Moves, ShardFacts, back_to, to_latest
from consumer.admin.replay.undo import Export, back_to_file, to_remove
from consumer.aws.shards import KnownShard, known, number
from consumer.config.kcl_properties import start_time_s
from consumer.leases.binding import find
from consumer.leases.leases import Lease
from consumer.leases.tables import Item
from pipeline.errors import NothingToDo, RefusedError, UserError

if TYPE_CHECKING:
    from consumer.aws.clients import Aws


@dataclass(frozen=True, slots=True)
class RewindRequest:
    """``moment_ms``: records that arrived then or later are read again. ``latest``: all records until now are skipped.

    ``export``: the leases in an undo file are restored. Exactly one of the three.
    """

    moment_ms: int | None = None
    latest: bool = False
    export: Export | None = None

    @property
    def skips(self) -> bool:
        """Whether leases move forward. To restore the leases from before a move back is a move forward too."""
        return self.latest or (self.export is not None and not self.export.forward)


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """``leases`` are those that were read. ``removes``: leases that go away. ``facts``: of the shards of the stream."""

    moves: Moves
    leases: Mapping[str, Lease]
    facts: Mapping[str, ShardFacts]
    removes: tuple[str, ...] = ()
    read_since: tuple[str, ...] = ()
    """Shards that workers have read since the change that is undone."""

    @property
    def nothing(self) -> bool:
        """Whether every lease is already where it should be."""
        return not self.moves.moves and not self.removes

    @property
    def owners(self) -> list[str]:
        """The workers that have a lease."""
        return sorted({lease.holder for lease in self.leases.values() if lease.holder and not lease.ended})


class Mover:
    """The leases of one application. ``created_s``: when its stream was created."""

    def __init__(self, aws: Aws, application: str, stream: str, created_s: int, table: LeaseTable) -> None:
        self._aws = aws
        self._application = application
        self._stream = stream
        self._created_s = created_s
        self._table = table
        self._known: dict[str, KnownShard] = {}
        self._start_ms: int | None = None

    def plan(self, request: RewindRequest, tell: Callable[[int], object] = lambda shards: None) -> ReplayPlan:
        """Plan what to move. ``tell`` is called for each shard that has been searched.

        :raises UserError: the application has no leases, or they belong to another stream.
        """
        leases = self._table.read()
        if not leases:
            raise UserError(f"lease table {self._application} has no leases: the application has not started yet")
        self._check_stream()
        self._known = known(self._aws.client("kinesis"), self._stream)
        return self._planned(request, leases, self._facts(request, tell))

    def execute(self, request: RewindRequest, planned: ReplayPlan, undo_file: Path, *, online: bool) -> ReplayPlan:
        """Write the undo file, then move the leases. Returns what was moved; more than planned if workers read on.

        :raises RefusedError: workers run and ``online`` is false, or :class:`LeaseTable` refuses.
        """
        if not online:
            self._table.must_be_idle(planned.leases)
        self._write_undo(request, planned, undo_file)
        if not online:
            self._table.offline(self._writes(planned, request, planned.leases))
            return planned
        done = planned

        def writes(leases: Mapping[str, Lease]) -> Sequence[Item]:
            nonlocal done
            done = self._again(request, planned, leases)
            self._write_undo(request, done, undo_file, again=True)
            return self._writes(done, request, leases)

        self._table.online(lambda leases: self._to_park(request, planned, leases), writes)
        return done

    def unread_since_ms(self, planned: ReplayPlan) -> int | None:
        """When the oldest record arrived that the plan skips; None: it skips none. Reads the stream."""
        positions = {move.shard_id: move.now for move in planned.moves.moves}
        return oldest_after(self._aws.client("kinesis"), self._stream, positions, self._start_ms)

    def _to_park(self, request: RewindRequest, planned: ReplayPlan, leases: Mapping[str, Lease]) -> set[str]:
        """The shards that move, and those that may have to, since workers still read: all that are not at their end."""
        again = self._planned(request, leases, planned.facts)
        moved = {move.shard_id for move in again.moves.moves if move.now is not None} | set(again.removes)
        return moved | {
            lease.shard_id for lease in leases.values() if not lease.ended and lease.shard_id in self._known
        }

    def _again(self, request: RewindRequest, planned: ReplayPlan, leases: Mapping[str, Lease]) -> ReplayPlan:
        """The plan for the leases once they are parked, when no worker reads their shards."""
        youngest = max((number(shard_id) or 0 for shard_id in self._known), default=0)
        if new := sorted(shard_id for shard_id in leases if (number(shard_id) or 0) > youngest):
            raise RefusedError(f"{', '.join(new)}: created by a reshard in the meantime; nothing was moved. Try again")
        return self._planned(request, leases, planned.facts)

    def _planned(
        self, request: RewindRequest, leases: Mapping[str, Lease], facts: Mapping[str, ShardFacts]
    ) -> ReplayPlan:
        if request.export is not None:
            moves = back_to_file(request.export, leases)
            since = tuple(undo.read_since(request.export, leases))
            return ReplayPlan(moves, leases, facts, tuple(to_remove(request.export, leases)), since)
        if request.latest:
            return ReplayPlan(to_latest(self._known, leases, facts), leases, facts)
        moment_ms = request.moment_ms or EARLIEST_MS
        moves = back_to(self._known, leases, facts, moment_ms=moment_ms, start_ms=self._start_ms)
        return ReplayPlan(moves, leases, facts)

    def _facts(self, request: RewindRequest, tell: Callable[[int], object]) -> dict[str, ShardFacts]:
        if request.export is not None:
            return {}
        now_ms = round(1000 * datetime.now(UTC).timestamp())
        moment_ms = now_ms if request.latest else request.moment_ms or EARLIEST_MS
        return facts_of(self._aws.client("kinesis"), self._stream, self._known, moment_ms, tell=tell)

    def _check_stream(self) -> None:
        dynamodb = self._aws.client("dynamodb")
        try:
            binding = find(dynamodb, self._application)
        except dynamodb.exceptions.ResourceNotFoundException:
            binding = None
        if binding is None:
            return
        if (binding.stream, binding.stream_created_s) != (self._stream, self._created_s):
            raise UserError(
                f"application {self._application} belongs to {binding}, which is not the present stream {self._stream}"
            )
        seconds = start_time_s(binding.start)
        self._start_ms = None if seconds is None else 1000 * seconds

    def _write_undo(self, request: RewindRequest, planned: ReplayPlan, path: Path, *, again: bool = False) -> None:
        undo.write(
            path,
            Export(
                self._application,
                self._stream,
                self._created_s,
                datetime.now(UTC).isoformat(timespec="seconds"),
                {shard_id: dict(lease.raw) for shard_id, lease in planned.leases.items()},
                tuple(move.shard_id for move in planned.moves.moves if move.now is None),
                request.skips,
                {move.shard_id: undo.target(move.then) for move in planned.moves.moves},
            ),
            again=again,
        )

    def _writes(self, planned: ReplayPlan, request: RewindRequest, leases: Mapping[str, Lease]) -> list[Item]:
        now_s = datetime.now(UTC).timestamp()
        name = self._application
        if request.export is None:
            return lease_writes.moves(name, planned.moves.moves, self._known, leases, now_s)
        items = request.export.leases
        return [
            *(lease_writes.restore(name, leases[move.shard_id], items[move.shard_id]) for move in planned.moves.moves),
            *(lease_writes.remove(name, leases[shard_id]) for shard_id in planned.removes),
        ]


def refuse_nothing(planned: ReplayPlan) -> None:
    """:raises NothingToDo: every lease is already where it should be."""
    if planned.nothing:
        raise NothingToDo("every shard is there or before it: there is nothing to move")
