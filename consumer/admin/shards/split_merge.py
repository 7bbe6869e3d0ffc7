"""Plans the call that splits one shard or merges two. Pure. These calls do not count as changes of the count."""

from __future__ import annotations

from consumer.admin.shards.changes import Merge, MergeShards, Refusal, ReshardPlan, Split, SplitShard, StreamState
from consumer.admin.shards.keyspace import Piece, halved, may_split, range_of
from consumer.aws.shards import KnownShard
from pipeline.hash_keys import HashRange


def split(state: StreamState, now: tuple[Piece, ...], request: Split) -> ReshardPlan | Refusal:
    """Plan the call that splits a shard."""
    shard = state.shards.get(request.shard_id)
    if shard is None:
        return _unknown(state, request.shard_id)
    keys = range_of(shard)
    at = halved(keys) if request.at is None else request.at
    if not shard.open:
        return _split_already(state, shard, None if request.anywhere else at)
    if not may_split(keys, at):
        return Refusal("mistake", f"{at} is not inside {request.shard_id}. Give a hash key between {_inside(keys)}")
    if (why := state.no_room(1)) is not None:
        return Refusal("refused", why)
    halves = (
        Piece(HashRange(keys.first, at - 1), "", (request.shard_id,)),
        Piece(HashRange(at, keys.last), "", (request.shard_id,)),
    )
    place = next(number for number, piece in enumerate(now) if piece.shard_id == request.shard_id)
    then = (*now[:place], *halves, *now[place + 1 :])
    return ReshardPlan(now, (SplitShard(request.shard_id, at),), then, tuple(state.quota_unknown()))


def _inside(keys: HashRange) -> str:
    return f"{keys.first + 2} and {keys.last - 1}"


def _split_already(state: StreamState, shard: KnownShard, at: int | None) -> Refusal:
    """The answer for a closed shard: already split as requested, or closed by something else."""
    children = sorted(_children(state, shard.shard_id), key=range_of)
    if len(children) == 2 and at in {None, range_of(children[1]).first}:
        return Refusal("nothing", f"{shard.shard_id} is split already: {_into(children)}")
    return Refusal("mistake", f"{shard.shard_id} is closed: {_into(children) or 'split or merged before'}")


def _children(state: StreamState, shard_id: str) -> list[KnownShard]:
    return [shard for shard in state.shards.values() if shard_id in shard.parents]


def _into(children: list[KnownShard]) -> str:
    return f"its records go to {' and '.join(child.shard_id for child in children)} now" if children else ""


def merge(state: StreamState, now: tuple[Piece, ...], request: Merge) -> ReshardPlan | Refusal:
    """Plan the call that merges two neighbours."""
    ids = (request.shard_id, request.other_id)
    for shard_id in ids:
        if shard_id not in state.shards:
            return _unknown(state, shard_id)
    if request.shard_id == request.other_id:
        return Refusal("mistake", "a shard cannot be merged with itself. Name two neighbours")
    lower, upper = sorted((state.shards[shard_id] for shard_id in ids), key=range_of)
    if not (lower.open and upper.open):
        return _merged_already(state, lower, upper)
    if range_of(lower).last + 1 != range_of(upper).first:
        return Refusal("mistake", f"{lower.shard_id} and {upper.shard_id} are not neighbours. {_beside(now, ids)}")
    whole = Piece(HashRange(range_of(lower).first, range_of(upper).last), "", (lower.shard_id, upper.shard_id))
    place = next(number for number, piece in enumerate(now) if piece.shard_id == lower.shard_id)
    return ReshardPlan(now, (MergeShards(lower.shard_id, upper.shard_id),), (*now[:place], whole, *now[place + 2 :]))


def _merged_already(state: StreamState, lower: KnownShard, upper: KnownShard) -> Refusal:
    both = {lower.shard_id, upper.shard_id}
    for shard in state.shards.values():
        if set(shard.parents) == both:
            return Refusal("nothing", f"the two are merged already, into {shard.shard_id}")
    closed = lower if not lower.open else upper
    into = _into(_children(state, closed.shard_id)) or "split or merged before"
    return Refusal("mistake", f"{closed.shard_id} is closed: {into}. Name open shards")


def _beside(now: tuple[Piece, ...], ids: tuple[str, str]) -> str:
    said = []
    for place, piece in enumerate(now):
        if piece.shard_id in ids:
            beside = [now[other].shard_id for other in (place - 1, place + 1) if 0 <= other < len(now)]
            said.append(f"{piece.shard_id} lies beside {' and '.join(beside)}")
    return "; ".join(said)


def _unknown(state: StreamState, shard_id: str) -> Refusal:
    return Refusal("mistake", f"stream {state.stream} has no shard {shard_id}. penstock shards list names them")
