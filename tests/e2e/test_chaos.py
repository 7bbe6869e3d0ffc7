"""A short storm of faults on two real workers: every record is one row or one dead letter."""

from __future__ import annotations

from pathlib import Path

from consumer.local.process import LocalAWS
from tests.chaos.producer import BAD
from tests.chaos.run import Outcome, Weather, storm
from tests.chaos.schedule import DECK, Act

SEED = 3
STORM_S, TIMEOUT_S, FAILOVER_MS = 20.0, 2.0, 3_000
WHEN = {
    "S3 PutObject: 409": 0.0,
    "Kinesis PutRecords: answer lost": 2.0,
    "SIGKILL of a replica": 3.0,
    "SplitShard": 4.0,
    "SIGSTOP of a worker, then SIGCONT": 5.0,
    "Kinesis ListShards: 500": 8.0,
    "SIGKILL of a host": 16.0,
}
FROZEN_S = 10.0
"""More than ``kcl.failover_ms`` and the two that may pass until KCL's leader assigns leases: its shards are taken over,
and it returns as a zombie."""


def acts() -> list[Act]:
    cards = {card.name: card for card in DECK}
    made = []
    for number, (name, at_s) in enumerate(WHEN.items()):
        card = cards[name]
        seconds = FROZEN_S if name.startswith("SIGSTOP") else card.seconds[1]
        made.append(Act(name, at_s, seconds, card.rule | ({"seed": SEED} if card.rule else {}), SEED + number))
    return made


def test_a_storm_loses_and_doubles_nothing(unlimited: LocalAWS, tmp_path: Path) -> None:
    weather = Weather(acts(), STORM_S, SEED, timeout_s=TIMEOUT_S, failover_ms=FAILOVER_MS)
    outcome = storm(unlimited, "storm", tmp_path, weather)
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
