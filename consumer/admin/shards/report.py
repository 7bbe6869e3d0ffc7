"""A plan for an operator: what it does to each shard, its calls, time and cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consumer.admin.shards.changes import MergeShards, ReshardPlan, ReshardStep, SplitShard
from consumer.admin.shards.cost import Daily
from consumer.admin.shards.keyspace import Piece
from pipeline.errors import counted


@dataclass(frozen=True, slots=True)
class ReshardReport:
    """A plan with its time and cost. ``takes_s``: None if unknown."""

    stream: str
    plan: ReshardPlan
    takes_s: float | None
    before: Daily
    after: Daily
    currency: str
    prices: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as ``--json`` prints it. Hash keys are strings: they have 128 bits."""
        return {
            "stream": self.stream,
            "now": [_piece(piece) for piece in self.plan.now],
            "then": [_piece(piece) for piece in self.plan.then],
            "calls": [call(step) for step in self.plan.steps],
            "takes_s": self.takes_s,
            "a_day": {
                "currency": self.currency,
                "before": self.before.total,
                "after": self.after.total,
                "parts_before": self.before.parts,
                "parts_after": self.after.parts,
                "prices": self.prices,
            },
            "notes": list(self.plan.notes),
        }

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Each shard to be created: a temporary name, its share, its first hash key, and its parents."""
        shares = {piece.shard_id: piece.share for piece in self.plan.now}
        made = [piece for piece in self.plan.then if not piece.shard_id]
        return [
            (f"new {place}", percent(piece.share), str(piece.keys.first), _from(piece, shares))
            for place, piece in enumerate(made, 1)
        ]

    @property
    def unchanged(self) -> int:
        """Shards that stay as they are."""
        return sum(bool(piece.shard_id) for piece in self.plan.then)


def percent(share: float) -> str:
    """A share of the hash keys or of a load, as a percentage."""
    return f"{100 * share:.2f} %"


def money(sum_a_day: float | None, currency: str) -> str:
    """An amount of money, or ``unknown``."""
    return "unknown" if sum_a_day is None else f"{sum_a_day:,.2f} {currency}"


def call(step: ReshardStep) -> dict[str, Any]:
    """An AWS call as data, with AWS's parameter names."""
    if isinstance(step, SplitShard):
        return {"call": "SplitShard", "ShardToSplit": step.shard_id, "NewStartingHashKey": str(step.at)}
    if isinstance(step, MergeShards):
        return {"call": "MergeShards", "ShardToMerge": step.lower, "AdjacentShardToMerge": step.upper}
    return {"call": "UpdateShardCount", "TargetShardCount": step.count}


def _piece(piece: Piece) -> dict[str, Any]:
    return {
        "shard_id": piece.shard_id or None,
        "share": piece.share,
        "first_hash_key": str(piece.keys.first),
        "last_hash_key": str(piece.keys.last),
        "from": list(piece.parents),
    }


def _from(piece: Piece, shares: dict[str, float]) -> str:
    if len(piece.parents) > 4:
        return f"{piece.parents[0]} to {piece.parents[-1]}, {counted(len(piece.parents), 'shard')}"
    return ", ".join(f"{parent} ({percent(shares[parent])})" for parent in piece.parents)
