"""Undo files: what a lease table held before a change, and which leases are restored from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consumer.admin import undo_files
from consumer.admin.replay.rewind import (
    AT_TIMESTAMP,
    LATEST,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
    Move,
    Moves,
    Stay,
    checkpoint_of,
)
from consumer.leases.leases import Lease, lease_of
from consumer.leases.tables import Item
from pipeline.errors import RefusedError, UserError
from pipeline.record import Position

SCHEMA = "penstock.replay.undo/1"

_ORDER = {TRIM_HORIZON: 0, AT_TIMESTAMP: 1, LATEST: 1, SHARD_END: 3}


@dataclass(frozen=True, slots=True)
class Export:
    """``leases``: the items before the change. ``made``: shards without a lease, for which the change created one.

    ``forward``: the change skipped records, so that leases are now ahead of their earlier positions. ``targets``: by
    shard, the position that the change wrote: a sequence number or a sentinel.
    """

    application: str
    stream: str
    stream_created_s: int
    taken_at: str
    leases: Mapping[str, Item]
    made: tuple[str, ...] = ()
    forward: bool = False
    targets: Mapping[str, str] = field(default_factory=dict)


def back_to_file(export: Export, leases: Mapping[str, Lease]) -> Moves:
    """The leases that the file restores: those that are behind it. A lease that has moved further since stays.

    Leases that the change created are deleted. After a change that skipped records, leases that are ahead move back.

    :raises RefusedError: not possible, because child shards have been started since.
    """
    if export.forward and (new := sorted(leases.keys() - export.leases.keys() - set(export.made))):
        raise RefusedError(
            f"{', '.join(new)} started after the file was written, and would be read before their parents. "
            "Use --rewind --to-time with the time at which the file was written"
        )
    moves, stays = [], []
    for shard_id, item in sorted(export.leases.items()):
        then = checkpoint_of(lease_of(item))
        lease = leases.get(shard_id)
        if lease is None:
            stays.append(Stay(shard_id, None, "it has been read to its end since, and KCL has deleted its lease"))
            continue
        now = checkpoint_of(lease)
        if _rank(now) == _rank(then):
            stays.append(Stay(shard_id, now, "it is there already"))
        elif (_rank(now) < _rank(then)) is export.forward:
            stays.append(Stay(shard_id, now, "it has moved further since"))
        else:
            moves.append(Move(shard_id, now, then))
    return Moves(tuple(moves), tuple(stays))


def to_remove(export: Export, leases: Mapping[str, Lease]) -> list[str]:
    """The leases that the change created and that still exist."""
    return sorted(shard_id for shard_id in export.made if shard_id in leases)


def target(checkpoint: Checkpoint) -> str:
    """A checkpoint as ``targets`` has it. The sequence number is enough, since a move is behind all of its record."""
    return str(checkpoint.sequence) if isinstance(checkpoint, Position) else checkpoint


def read_since(export: Export, leases: Mapping[str, Lease]) -> list[str]:
    """The shards that have been read since the change: their leases are not where it put them. A lease that is gone
    was read to its end, unless the change put it there."""
    return sorted(
        shard_id
        for shard_id, then in export.targets.items()
        if (target(checkpoint_of(leases[shard_id])) if shard_id in leases else SHARD_END) != then
    )


def write(path: Path, export: Export, *, again: bool = False) -> None:
    """Write the file. With ``again``, the same command replaces its file, in one step.

    :raises UserError: the file exists, or cannot be written.
    """
    said = {
        "schema": SCHEMA,
        "application": export.application,
        "stream": export.stream,
        "stream_created_s": export.stream_created_s,
        "taken_at": export.taken_at,
        "leases": [export.leases[shard_id] for shard_id in sorted(export.leases)],
        "made": list(export.made),
        "forward": export.forward,
        "targets": dict(export.targets),
    }
    undo_files.write(path, said, again=again)


def read(path: Path, application: str, stream: str, stream_created_s: int) -> Export:
    """Read the file, which must be of this application and this stream.

    :raises UserError: it is not, or it does not exist.
    """
    export = undo_files.read(path, SCHEMA, _export, command="penstock replay --rewind")
    if export.application != application:
        raise UserError(f"{path} is of application {export.application}, not {application}. Name another file")
    if (export.stream, export.stream_created_s) != (stream, stream_created_s):
        raise UserError(f"{path} is of another stream than the present {stream}: its positions are not valid for it")
    return export


def _export(said: Mapping[str, Any]) -> Export:
    leases = {item["leaseKey"]["S"]: item for item in said["leases"]}
    return Export(
        said["application"],
        said["stream"],
        int(said["stream_created_s"]),
        said["taken_at"],
        leases,
        tuple(said["made"]),
        bool(said["forward"]),
        dict(said["targets"]),
    )


def _rank(checkpoint: Checkpoint) -> tuple[int, int]:
    if isinstance(checkpoint, Position):
        return 2, checkpoint.sequence
    return _ORDER.get(checkpoint, 1), 0
