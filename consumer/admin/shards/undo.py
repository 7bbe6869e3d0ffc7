"""Undo files of changes to a stream's shards: what the shards were, and the change that leads back there.

Records stay where they are, and new shards get new ids: what comes back is how the open shards share the hash keys. A
split is undone by merging its two shards, a merge by splitting its shard at the original boundary, both exactly. A
scale is undone by scaling to the former count, which makes shards of equal size.

A change that was interrupted and is made again keeps its first file, which leads back to the original shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from consumer.admin import undo_files
from consumer.admin.shards.changes import Merge, Refusal, ReshardPlan, ReshardRequest, Scale, Split, StreamState
from consumer.admin.shards.keyspace import SPACE, Piece, open_pieces, size, uniform
from pipeline.errors import UserError, counted
from pipeline.hash_keys import HashRange

SCHEMA = "penstock.shards.undo-file/1"

SHARES = 16
"""Shards whose former share is named."""


@dataclass(frozen=True, slots=True)
class ReshardUndo:
    """``stream`` is the stream's identity: its ARN and creation. ``before`` and ``after``: the hash keys of the open
    shards, ``after`` as the plan had them. ``change``: what was requested, such as ``scale 4``. ``done``: all calls
    were made.
    """

    stream: str
    taken_at: str
    before: tuple[HashRange, ...]
    after: tuple[HashRange, ...]
    change: str
    done: bool = False

    @property
    def scaled(self) -> bool:
        """Whether the change was one of the count."""
        return self.change.startswith("scale ")

    @property
    def equal(self) -> bool:
        """Whether the shards had the same size before the change, as a scale makes them."""
        return self.before == uniform(len(self.before))


def undo_of(stream: str, taken_at: str, request: ReshardRequest, planned: ReshardPlan) -> ReshardUndo:
    """What undoes a plan. Pure."""
    before, after = (tuple(piece.keys for piece in pieces) for pieces in (planned.now, planned.then))
    return ReshardUndo(stream, taken_at, before, after, _named(request))


def _named(request: ReshardRequest) -> str:
    if isinstance(request, Scale):
        return f"scale {request.count}"
    if isinstance(request, Split):
        return f"split {request.shard_id}"
    return f"merge {' '.join(sorted((request.shard_id, request.other_id)))}"


def described(undo: ReshardUndo) -> str:
    """How a change is undone, for people. Pure."""
    if not undo.scaled:
        split = undo.change.startswith("split ")
        return "merges the two new shards" if split else "splits the new shard at the original boundary"
    equal = "" if undo.equal else ", of equal size, which the original ones were not"
    return f"scales back to {counted(len(undo.before), 'shard')}{equal}"


def makes(undo: ReshardUndo) -> str:
    """What an undo makes of the shards, for people. Pure."""
    if not undo.scaled or undo.equal:
        return f"as the shards were at {undo.taken_at}"
    shares = ", ".join(f"{size(keys) / SPACE:.1%}".replace("%", " %") for keys in undo.before[:SHARES])
    more = ", …" if len(undo.before) > SHARES else ""
    return (
        f"as many shards as at {undo.taken_at}, but the hash keys will not be as before: the shards will be of equal "
        f"size, and were {shares}{more}"
    )


def continued(found: ReshardUndo, fresh: ReshardUndo) -> ReshardUndo | None:
    """The undo of a change that was interrupted and is made again as ``fresh``; None if ``found`` is of another change.
    Pure.
    """
    if found.done or (found.stream, found.change) != (fresh.stream, fresh.change):
        return None
    if found.before == fresh.before:
        return replace(fresh, taken_at=found.taken_at)
    least, most = sorted((len(found.before), len(found.after)))
    return found if found.scaled and least < len(fresh.before) < most else None


def request_back(undo: ReshardUndo, state: StreamState) -> ReshardRequest | Refusal:
    """The change that leads back, from the present state. Pure.

    A scale that was interrupted is undone, too. A split or merge is refused if its shards are no longer there.
    """
    pieces = open_pieces(state.shards)
    if tuple(piece.keys for piece in pieces) == undo.before:
        return Refusal("nothing", f"stream {state.stream} has these shards: there is nothing to undo")
    if undo.scaled:
        return Scale(len(undo.before))
    gone = [keys for keys in undo.before if keys not in undo.after]
    made = [_at(pieces, keys) for keys in undo.after if keys not in undo.before]
    if len(made) == 2 and made[0] and made[1]:
        return Merge(made[0].shard_id, made[1].shard_id)
    if len(made) == 1 and made[0]:
        return Split(made[0].shard_id, gone[1].first)
    return Refusal(
        "refused",
        f"the shards that the change made on stream {state.stream} are no longer open: they were changed since. "
        "Plan a new change from what there is: penstock shards list",
    )


def begun(paths: Iterable[Path], fresh: ReshardUndo) -> tuple[Path, ReshardUndo] | None:
    """The first file that an interrupted run of the same change wrote, and its content."""
    for path in paths:
        try:
            found = continued(_read(path), fresh)
        except UserError:
            continue
        if found is not None:
            return path, found
    return None


def write(path: Path, undo: ReshardUndo, *, again: bool = False) -> None:
    """Write a new file. ``again``: replace it, in one step.

    :raises UserError: the file exists, or cannot be written.
    """
    said = {
        "schema": SCHEMA,
        "stream": undo.stream,
        "taken_at": undo.taken_at,
        "before": [[str(keys.first), str(keys.last)] for keys in undo.before],
        "after": [[str(keys.first), str(keys.last)] for keys in undo.after],
        "change": undo.change,
        "done": undo.done,
    }
    undo_files.write(path, said, again=again)


def read(path: Path, stream: str) -> ReshardUndo:
    """Read the file, which must be of this stream (its identity).

    :raises UserError: it is not, or it does not exist.
    """
    undo = _read(path)
    if undo.stream != stream:
        raise UserError(f"{path} is of stream {undo.stream}, not of {stream}. Name another file, or another stream")
    return undo


def _read(path: Path) -> ReshardUndo:
    return undo_files.read(path, SCHEMA, _parsed, command="penstock shards")


def _parsed(said: dict[str, Any]) -> ReshardUndo:
    before, after = (
        tuple(HashRange(int(first), int(last)) for first, last in said[name]) for name in ("before", "after")
    )
    return ReshardUndo(
        str(said["stream"]), str(said["taken_at"]), before, after, str(said["change"]), said["done"] is True
    )


def _at(pieces: Sequence[Piece], keys: HashRange) -> Piece | None:
    return next((piece for piece in pieces if piece.keys == keys), None)
