"""Notes on leases, and a lease that a careful reader holds, on moto's DynamoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.leases import leases
from consumer.poison.doubt import Death, Doubt, Skip
from consumer.poison.notes import HOLDER, LeaseNotes
from pipeline.record import Position
from tests.support.kcl_tables import APP, SHARDS, owners, put

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHARD = SHARDS[0]
ME = f"{HOLDER}me"
DIED = Doubt(deaths=(Death("a", "x"), Death("b", "y")))


@pytest.fixture
def notes(tables: DynamoDBClient) -> LeaseNotes:
    return LeaseNotes(lambda: tables, APP)


def test_a_note_is_kept_and_taken_away_again(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    put(tables, SHARD)
    assert notes.write(SHARD, "", DIED)
    noted = notes.read(SHARD)
    assert noted is not None
    assert noted.doubt == DIED
    assert [each.doubt for each in notes.all()] == [DIED]
    assert notes.write(SHARD, noted.text, Doubt())
    assert (noted := notes.read(SHARD)) is not None
    assert noted.text == ""


def test_of_two_that_change_a_note_one_does(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    put(tables, SHARD)
    assert notes.write(SHARD, "", Doubt(by="one"))
    assert not notes.write(SHARD, "", Doubt(by="other"))
    assert (noted := notes.read(SHARD)) is not None
    assert noted.doubt.by == "one"


def test_a_note_makes_no_lease(notes: LeaseNotes) -> None:
    assert notes.read(SHARD) is None
    assert not notes.write(SHARD, "", DIED)
    assert list(notes.all()) == []


def test_a_note_leaves_the_lease_as_it_is(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    put(tables, SHARD, leaseOwner="worker")
    before = leases.read(tables, APP)
    notes.write(SHARD, "", DIED)
    assert leases.read(tables, APP) == before


@pytest.mark.parametrize("changes", [{}, {"leaseOwner": "dead"}, {"leaseOwner": "dead", "checkpointOwner": "other"}])
def test_of_two_careful_readers_one_has_the_lease(
    tables: DynamoDBClient, notes: LeaseNotes, changes: dict[str, str]
) -> None:
    put(tables, SHARD, **changes)
    noted = notes.read(SHARD)
    assert noted is not None
    assert notes.hold(noted, ME, DIED)
    assert not notes.hold(noted, f"{HOLDER}other", DIED)
    (lease,) = leases.read(tables, APP)
    assert (lease.owner, lease.draining_owner) == (ME, "")
    assert lease.counter - noted.lease.counter >= 100


def test_a_lease_that_was_renewed_meanwhile_is_not_held(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    put(tables, SHARD, leaseOwner="alive")
    noted = notes.read(SHARD)
    assert noted is not None
    assert notes.keep(SHARD, "alive")
    assert not notes.hold(noted, ME, DIED)
    assert owners(tables) == {SHARD: "alive"}


def test_a_step_moves_note_and_checkpoint_of_a_held_lease(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    """The checkpoint is after the whole record, including all of its user records, and is written like a session's."""
    put(tables, SHARD, leaseOwner=ME, pendingCheckpoint="41")
    assert notes.step(SHARD, ME, DIED, Position(77, 12))
    noted = notes.read(SHARD)
    assert noted is not None
    assert (noted.lease.checkpoint, noted.doubt) == (Position(77, 0), DIED)
    assert "pendingCheckpoint" not in tables.get_item(TableName=APP, Key={"leaseKey": {"S": SHARD}})["Item"]
    assert notes.step(SHARD, ME, Doubt())
    noted = notes.read(SHARD)
    assert noted is not None
    assert (noted.lease.checkpoint, noted.text) == (Position(77, 0), "")


def test_a_reader_that_lost_the_lease_moves_nothing(tables: DynamoDBClient, notes: LeaseNotes) -> None:
    put(tables, SHARD, leaseOwner="other")
    before = leases.read(tables, APP)
    assert not notes.step(SHARD, ME, DIED, Position(77, 0))
    assert not notes.keep(SHARD, ME)
    assert not notes.free(SHARD, ME, DIED)
    assert leases.read(tables, APP) == before


@pytest.mark.parametrize("doubt", [DIED, Doubt()], ids=["in doubt", "in order"])
def test_a_lease_is_given_up_with_its_note(tables: DynamoDBClient, notes: LeaseNotes, doubt: Doubt) -> None:
    put(tables, SHARD, leaseOwner=ME)
    assert notes.free(SHARD, ME, doubt)
    noted = notes.read(SHARD)
    assert noted is not None
    assert (noted.lease.owner, noted.doubt) == ("", doubt)


# -- an operator's


OVER = Doubt().with_skip(Skip(Position(50, 0), "x"))


@pytest.mark.parametrize("owner", [{}, {"leaseOwner": "alive"}])
def test_an_operators_note_takes_the_lease_from_its_owner(
    tables: DynamoDBClient, notes: LeaseNotes, owner: dict[str, str]
) -> None:
    put(tables, SHARD, **owner)
    noted = notes.read(SHARD)
    assert noted is not None
    assert owners(tables)[SHARD] == owner.get("leaseOwner", "")
    if owner:
        assert notes.keep(SHARD, "alive"), "it is renewed meanwhile, as every few seconds"
    assert notes.pass_over(noted, OVER)
    (lease,) = leases.read(tables, APP)
    assert (lease.owner, lease.checkpoint) == ("", noted.lease.checkpoint)
    assert lease.counter - noted.lease.counter >= 100
    assert (after := notes.read(SHARD)) is not None
    assert after.doubt == OVER


@pytest.mark.parametrize(
    "changes", [{"leaseOwner": "another"}, {"leaseOwner": "alive", "checkpointOwner": "drains"}, {}]
)
def test_an_operators_note_is_not_written_over_a_change(
    tables: DynamoDBClient, notes: LeaseNotes, changes: dict[str, str]
) -> None:
    put(tables, SHARD, leaseOwner="alive")
    noted = notes.read(SHARD)
    assert noted is not None
    put(tables, SHARD, **changes)
    assert not notes.pass_over(noted, OVER)
    put(tables, SHARD, leaseOwner="alive")
    assert notes.write(SHARD, "", DIED)
    assert not notes.pass_over(noted, OVER), "a worker has noted something meanwhile"
