"""A short storm of faults on two real workers: every record is one row or one dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.local.process import LocalAWS
from tests.chaos.producer import BAD
from tests.chaos.run import Outcome, Weather, storm
from tests.chaos.schedule import DECK, Act

SEED = 3
STORM_S, TIMEOUT_S = 28.0, 2.0
WHEN = {
    "S3 PutObject: 409": 0.0,
    "Kinesis PutRecords: answer lost": 2.0,
    "SIGKILL of a replica": 4.0,
    "SplitShard": 5.0,
    "SIGSTOP of a worker, then SIGCONT": 7.0,
    "Kinesis ListShards: 500": 10.0,
    "SIGKILL of a host": 20.0,
}
FROZEN_S = 12.0
"""Longer than ``kcl.failover_ms``, so that its shards are taken over and it returns as a zombie."""


def acts() -> list[Act]:
    cards = {card.name: card for card in DECK}
    made = []
    for number, (name, at_s) in enumerate(WHEN.items()):
        card = cards[name]
        seconds = FROZEN_S if name.startswith("SIGSTOP") else card.seconds[1]
        made.append(Act(name, at_s, seconds, card.rule | ({"seed": SEED} if card.rule else {}), SEED + number))
    return made


@pytest.fixture
def unlimited() -> Iterator[LocalAWS]:
    with LocalAWS(limits=False) as local:
        yield local


def test_a_storm_loses_and_doubles_nothing(unlimited: LocalAWS, tmp_path: Path) -> None:
    outcome = storm(unlimited, "storm", tmp_path, Weather(acts(), STORM_S, SEED, timeout_s=TIMEOUT_S))
    assert outcome.problems == []
    assert (outcome.lost, outcome.doubled, outcome.out_of_order, outcome.wronged) == (0, 0, 0, 0)
    assert set(outcome.acts) == set(WHEN)
    check_that_it_was_a_storm(outcome)


def check_that_it_was_a_storm(outcome: Outcome) -> None:
    """Check that records were put and poison was met; otherwise the storm proves nothing."""
    assert outcome.put == outcome.rows + sum(outcome.dead_letters.values()) > 500
    assert sum(outcome.dead_letters.values()) >= len(BAD)
    assert {"decode", "rejected", "exception", "died", "timeout", "aggregate"} <= set(outcome.dead_letters)
    assert outcome.workers > 2
    assert outcome.shards == 5
