"""Which records an operator may skip."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.admin.shards.changes import Refusal
from consumer.admin.shards.skip import Found, SkipPlan, plan_skip, plan_withdrawal, shown
from consumer.leases.leases import Lease
from consumer.poison.doubt import Death, Doubt, Skip, written
from consumer.poison.notes import HOLDER, Noted
from consumer.testing import aggregate
from pipeline.record import LAST_SUB, Position

AT = Position(50, LAST_SUB)
LEASE = Lease("s", "w", 7, Position(40, 0), "", (), (), "")


def found(data: bytes = b"x", users: int | None = None) -> Found:
    raw = {"Data": data, "PartitionKey": "k", "ApproximateArrivalTimestamp": datetime.fromtimestamp(1, UTC)}
    return Found("s", 50, raw, users)


def planned(
    at: Position = AT, doubt: Doubt | None = None, users: int | None = None, **lease: Any
) -> SkipPlan | Refusal:
    noted = Noted(replace(LEASE, **lease), written(doubt or Doubt()))
    return plan_skip(noted, found(users=users), "s", at, "why")


@pytest.mark.parametrize("lease", [{}, {"owner": ""}, {"checkpoint": None, "sentinel": "TRIM_HORIZON"}])
def test_a_record_that_is_still_to_come_is_passed_over(lease: dict[str, Any]) -> None:
    plan = planned(**lease)
    assert isinstance(plan, SkipPlan)
    assert plan.skip == Skip(AT, "why")


@pytest.mark.parametrize(
    ("lease", "kind"),
    [
        ({"checkpoint": None, "sentinel": "SHARD_END"}, "nothing"),
        ({"checkpoint": None, "sentinel": "LATEST"}, "refused"),
        ({"checkpoint": Position(50, 0)}, "nothing"),
        ({"draining_owner": "v"}, "refused"),
        ({"owner": f"{HOLDER}w"}, "refused"),
    ],
)
def test_records_that_are_past_or_being_read_elsewhere_are_not_skipped(lease: dict[str, Any], kind: str) -> None:
    plan = planned(**lease)
    assert isinstance(plan, Refusal)
    assert plan.kind == kind


def test_missing_records_and_shards_are_user_errors() -> None:
    for plan in (
        plan_skip(None, None, "s", AT, ""),
        plan_skip(Noted(LEASE, ""), None, "s", AT, ""),
        planned(Position(50, 1)),
        planned(Position(50, 3), users=3),
    ):
        assert isinstance(plan, Refusal)
        assert plan.kind == "mistake"
    assert isinstance(planned(Position(50, 2), users=3), SkipPlan)


def test_a_record_that_does_not_exist_is_never_said_to_be_past() -> None:
    for lease in (LEASE, replace(LEASE, checkpoint=None, sentinel="SHARD_END")):
        plan = plan_skip(Noted(lease, ""), None, "s", Position(1, LAST_SUB), "")
        assert isinstance(plan, Refusal) and plan.kind == "mistake"


def test_a_pending_request_is_withdrawn_and_nothing_else_changes() -> None:
    other = Skip(Position(60, 2), "other")
    doubt = Doubt(deaths=(Death("w", "how"),)).with_skip(Skip(AT, "why")).with_skip(other)
    noted = Noted(LEASE, written(doubt))
    assert plan_withdrawal(noted, "s", AT) == (Skip(AT, "why"),)
    assert plan_withdrawal(noted, "s", None) == doubt.skips
    assert doubt.without_skips((Skip(AT, "why"),)) == replace(doubt, skips=(other,))
    assert written(Doubt().with_skip(other).without_skips((other,))) == "", "the note is removed with its last request"
    kinds = {
        "nothing": plan_withdrawal(noted, "s", Position(50, 0)),
        "mistake": plan_withdrawal(None, "s", None),
        "refused": plan_withdrawal(replace(noted, lease=replace(LEASE, owner=f"{HOLDER}w")), "s", None),
    }
    for kind, plan in kinds.items():
        assert isinstance(plan, Refusal) and plan.kind == kind


def test_a_hindered_request_is_made_again() -> None:
    doubt = Doubt().with_skip(Skip(AT, "before"))
    noted = planned(doubt=doubt)
    assert isinstance(noted, Refusal)
    assert noted.kind == "nothing"
    hindered = doubt.hinders().hinders()
    again = planned(doubt=hindered)
    assert isinstance(again, SkipPlan)
    assert hindered.with_skip(again.skip).doubtful


def test_of_an_aggregate_the_first_few_are_shown_or_the_one_that_is_meant() -> None:
    whole = found(aggregate([b"a", b"b", b"c", b"d"]), 4)
    assert [record.data for record in shown(whole, LAST_SUB)] == [b"a", b"b", b"c"]
    assert [(record.data, record.position) for record in shown(whole, 3)] == [(b"d", Position(50, 3))]
