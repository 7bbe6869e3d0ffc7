"""Changes of a stream's shards that can be requested, the calls for them, and reasons why one is not possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from consumer.admin.shards.keyspace import Piece
from consumer.aws.shards import KnownShard
from pipeline.errors import counted


@dataclass(frozen=True, slots=True)
class StreamState:
    """The present state of a stream. None is unknown.

    ``shards``: all that Kinesis lists, with closed ones. ``recounts_left``: how many calls of UpdateShardCount are left
    at most, according to ``recounts_source``; ``next_recount``: when another one is possible, as text. ``account_open``
    and ``account_limit``: the account's open shards in the region, and their limit.
    """

    stream: str
    shards: Mapping[str, KnownShard]
    status: str = "ACTIVE"
    mode: str = "PROVISIONED"
    recounts_left: int | None = None
    recounts_source: str = ""
    next_recount: str = ""
    account_open: int | None = None
    account_limit: int | None = None
    arn: str = "ARN"
    """For commands that messages name."""

    def no_room(self, more: int) -> str | None:
        """Why the account does not have room for this many more open shards; None if it has, or if that is unknown."""
        if self.account_open is None or self.account_limit is None or more <= 0:
            return None
        room = self.account_limit - self.account_open
        if more <= room:
            return None
        return (
            f"that takes {counted(more, 'more shard')}, and the account has room for {max(0, room):,}: "
            f"{self.account_open:,} of {self.account_limit:,} are open in this region. Raise the quota 'Shards per "
            "Region' in Service Quotas first"
        )

    def quota_unknown(self) -> list[str]:
        """A note for a plan that takes more shards than there are."""
        if self.account_open is not None and self.account_limit is not None:
            return []
        why = "kinesis:DescribeLimits cannot be called"
        return [f"whether the account's quota of shards has room for more is unknown: {why}"]


@dataclass(frozen=True, slots=True)
class Scale:
    """A number of open shards of the same size."""

    count: int


@dataclass(frozen=True, slots=True)
class Split:
    """Two shards instead of one; the upper one starts ``at``, or in the middle.

    ``anywhere``: a shard that is already split needs no change, wherever it was split.
    """

    shard_id: str
    at: int | None = None
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class Merge:
    """One shard instead of two neighbours."""

    shard_id: str
    other_id: str


ReshardRequest = Scale | Split | Merge


@dataclass(frozen=True, slots=True)
class UpdateShardCount:
    """An UpdateShardCount call; ``before`` shards are open when it is made."""

    before: int
    count: int

    def __str__(self) -> str:
        return f"UpdateShardCount to {self.count:,} (from {self.before:,})"


@dataclass(frozen=True, slots=True)
class SplitShard:
    """A SplitShard call: ``at`` is the first hash key of the upper child."""

    shard_id: str
    at: int

    def __str__(self) -> str:
        return f"SplitShard {self.shard_id} at {self.at}"


@dataclass(frozen=True, slots=True)
class MergeShards:
    """A MergeShards call; ``lower`` has the lower hash keys."""

    lower: str
    upper: str

    def __str__(self) -> str:
        return f"MergeShards {self.lower} with {self.upper}"


ReshardStep = UpdateShardCount | SplitShard | MergeShards


@dataclass(frozen=True, slots=True)
class ReshardPlan:
    """Calls in order, each made when the stream is ACTIVE again. ``then``: the open shards afterwards."""

    now: tuple[Piece, ...]
    steps: tuple[ReshardStep, ...]
    then: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


RefusalKind = Literal["mistake", "refused", "nothing"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why there is no plan, and what to do instead. ``mistake``: the request names a shard that does not
    exist. ``refused``: Kinesis would refuse it, or it has no use. ``nothing``: the stream needs no change."""

    kind: RefusalKind
    why: str
