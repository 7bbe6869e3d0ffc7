"""Which acts a storm has, and when; a seed decides. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GAP_S = (2.0, 8.0)
"""Minimum and maximum seconds between two acts."""


@dataclass(frozen=True, slots=True)
class Act:
    """One act. ``at_s``: seconds since the start of the storm. ``seconds``: how long it lasts, if it does. ``rule``: of
    a fault."""

    name: str
    at_s: float = 0.0
    seconds: float = 0.0
    rule: dict[str, Any] = field(default_factory=dict)
    dice: int = 0
    """A number that selects the worker, process or shard, from those that exist at that time."""


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of act. ``copies``: how often it is in a deck."""

    name: str
    copies: int = 1
    seconds: tuple[float, float] = (0.0, 0.0)
    rule: dict[str, Any] = field(default_factory=dict)

    def act(self, at_s: float, dice: random.Random) -> Act:
        seed = dice.randrange(2**31)
        rule = self.rule | ({"seed": seed} if self.rule else {})
        return Act(self.name, round(at_s, 2), round(dice.uniform(*self.seconds), 1), rule, seed)


def fault(name: str, seconds: tuple[float, float], **rule: Any) -> Card:
    return Card(name, 2, seconds, rule)


KILLS = (
    Card("SIGKILL of a host", 2),
    Card("SIGKILL of a JVM", 2),
    Card("SIGKILL of a bridge", 2),
    Card("SIGKILL of a replica", 5),
    Card("SIGSTOP of a worker, then SIGCONT", 4, (5, 25)),
    Card("SIGTERM of a worker", 3),
    Card("SplitShard", 2),
    Card("MergeShards", 2),
    Card("UpdateShardCount", 1),
    Card("UpdateStreamRecordDistributionStrategy: AUTO, no keys", 2, (8, 15)),
)

FAULTS = (
    fault("Kinesis GetRecords: 500", (4, 12), service="kinesis", operation="GetRecords", kind="error", probability=0.7),
    fault("Kinesis GetRecords: throttled", (4, 12), service="kinesis", operation="GetRecords", kind="throttle"),
    fault(
        "Kinesis GetRecords: expired iterator",
        (2, 5),
        service="kinesis",
        operation="GetRecords",
        kind="expired_iterator",
        probability=0.5,
    ),
    fault(
        "Kinesis GetRecords: reset", (3, 8), service="kinesis", operation="GetRecords", kind="reset", probability=0.5
    ),
    fault("Kinesis GetRecords: slow", (5, 12), service="kinesis", operation="GetRecords", kind="delay", delay_s=2.5),
    fault("Kinesis GetShardIterator: 500", (4, 9), service="kinesis", operation="GetShardIterator", kind="error"),
    fault("Kinesis ListShards: 500", (4, 9), service="kinesis", operation="ListShards", kind="error", probability=0.7),
    fault(
        "Kinesis PutRecords: answer lost",
        (2, 5),
        service="kinesis",
        operation="PutRecords",
        kind="error",
        performed=True,
        probability=0.5,
    ),
    fault("Kinesis PutRecords: in part", (4, 9), service="kinesis", operation="PutRecords", kind="partial", share=0.4),
    fault("S3 PutObject: 409", (4, 12), service="s3", operation="PutObject", kind="error", status=409, probability=0.7),
    fault("S3 PutObject: 500", (4, 9), service="s3", operation="PutObject", kind="error", status=500, probability=0.8),
    fault("S3 PutObject: 503", (4, 12), service="s3", operation="PutObject", kind="throttle"),
    fault(
        "S3 PutObject: answer lost",
        (4, 12),
        service="s3",
        operation="PutObject",
        kind="reset",
        performed=True,
        probability=0.7,
    ),
    fault(
        "S3 PutObject: performed, but 500",
        (4, 9),
        service="s3",
        operation="PutObject",
        kind="error",
        performed=True,
        probability=0.7,
    ),
    fault("S3 PutObject: stalled", (5, 15), service="s3", operation="PutObject", kind="stall"),
    fault("S3 HeadObject: 503", (4, 9), service="s3", operation="HeadObject", kind="throttle", probability=0.8),
    fault("S3 ListObjects: 500", (4, 9), service="s3", operation="ListObjectsV2", kind="error", probability=0.8),
    fault("DynamoDB: throttled", (3, 7), service="dynamodb", kind="throttle", probability=0.6),
    fault("DynamoDB UpdateItem: 500", (3, 7), service="dynamodb", operation="UpdateItem", kind="error"),
    fault(
        "DynamoDB UpdateItem: answer lost",
        (3, 7),
        service="dynamodb",
        operation="UpdateItem",
        kind="reset",
        performed=True,
        probability=0.6,
    ),
)

DECK = (*KILLS, *FAULTS)


def deal(seed: int, seconds: float, deck: Sequence[Card] = DECK, gap_s: tuple[float, float] = GAP_S) -> list[Act]:
    """Return the acts for this long: shuffled decks one after the other, so that a long storm has every kind."""
    dice = random.Random(seed)
    acts: list[Act] = []
    waiting: list[Card] = []
    at_s = 0.0
    while at_s < seconds:
        if not waiting:
            waiting = [card for card in deck for _ in range(card.copies)]
            dice.shuffle(waiting)
        acts.append(waiting.pop().act(at_s, dice))
        at_s += dice.uniform(*gap_s)
    return acts
