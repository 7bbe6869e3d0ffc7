"""Undo files of changes to a stream's shards: what the shards were, and the change that leads back there.

Records stay where they are, and shards that are made get new ids: what comes back is how the open shards share the hash
keys. A split is undone by merging its two shards, a merge by splitting its shard where the two met, both exactly. A
scale is undone by scaling to the former count, which makes shards of equal size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.admin.shards.changes import Merge, Refusal, ReshardPlan, Scale, Split, StreamState, Wish
from consumer.admin.shards.keyspace import Piece, open_pieces, uniform
from pipeline.errors import UserError, counted
from pipeline.hash_keys import HashRange

SCHEMA = "penstock.shards.undo/1"


@dataclass(frozen=True, slots=True)
class ReshardUndo:
    """``stream`` is the stream's identity: its ARN and creation. ``before`` and ``after``: the hash keys of the open
    shards, ``after`` as the plan had them. ``scaled``: the change was one of the count.
    """

    stream: str
    taken_at: str
    before: tuple[HashRange, ...]
    after: tuple[HashRange, ...]
    scaled: bool


def undo_of(stream: str, taken_at: str, wish: Wish, planned: ReshardPlan) -> ReshardUndo:
    """What undoes a plan. Pure."""
    before, after = (tuple(piece.keys for piece in pieces) for pieces in (planned.now, planned.then))
    return ReshardUndo(stream, taken_at, before, after, isinstance(wish, Scale))


def described(planned: ReshardPlan, wish: Wish) -> str:
    """How a plan is undone, for people. Pure."""
    if not isinstance(wish, Scale):
        return "merges the two new shards" if isinstance(wish, Split) else "splits the new shard where the two met"
    before = [piece.keys for piece in planned.now]
    equal = "" if tuple(before) == uniform(len(before)) else ", of equal size, which the present ones are not"
    return f"scales back to {counted(len(before), 'shard')}{equal}"


def wish_back(undo: ReshardUndo, state: StreamState) -> Wish | Refusal:
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


def write(path: Path, undo: ReshardUndo) -> None:
    """Write a new file.

    :raises UserError: the file exists, or cannot be written.
    """
    said = {
        "schema": SCHEMA,
        "stream": undo.stream,
        "taken_at": undo.taken_at,
        "before": [[str(keys.first), str(keys.last)] for keys in undo.before],
        "after": [[str(keys.first), str(keys.last)] for keys in undo.after],
        "scaled": undo.scaled,
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(said, indent=1) + "\n")
    except FileExistsError:
        raise UserError(f"{path} exists. Give the undo file another name with --undo FILE") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}). Name another with --undo FILE") from None


def read(path: Path, stream: str) -> ReshardUndo:
    """Read the file, which must be of this stream (its identity).

    :raises UserError: it is not, or it does not exist.
    """
    try:
        undo = _parsed(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Name an undo file that exists") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not an undo file of `penstock shards`. Name one that it wrote") from None
    if undo.stream != stream:
        raise UserError(f"{path} is of stream {undo.stream}, not of {stream}. Name another file, or another stream")
    return undo


def _parsed(said: Any) -> ReshardUndo:
    if said["schema"] != SCHEMA:
        raise ValueError(said["schema"])
    before, after = (
        tuple(HashRange(int(first), int(last)) for first, last in said[name]) for name in ("before", "after")
    )
    return ReshardUndo(str(said["stream"]), str(said["taken_at"]), before, after, bool(said["scaled"]))


def _at(pieces: Sequence[Piece], keys: HashRange) -> Piece | None:
    return next((piece for piece in pieces if piece.keys == keys), None)
