"""A careful reading that fails: by a service, a note or a lease, and not by a record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from consumer.poison import held_leases
from consumer.poison.doubt import HINDERED, Doubt
from consumer.poison.held_leases import Hindered
from pipeline.record import Position
from tests.support.careful import DEATHS, Rig, plain


def fails(*_: object) -> Any:
    raise RuntimeError("GetRecords answered with what it never had")


def test_a_read_that_fails_names_no_record_and_gives_way_to_kcl() -> None:
    doubt = Doubt(deaths=DEATHS)
    for _ in range(HINDERED):
        assert doubt.doubtful
        rig = Rig(fails, doubt, None)
        with pytest.raises(Hindered, match="GetRecords"):
            asyncio.run(rig.read())
        (doubt,) = rig.notes.freed
    assert doubt == Doubt(deaths=DEATHS, hindered=HINDERED)
    assert doubt.watched and not doubt.doubtful
    again = doubt.begun("kcl").died("kcl", "the JVM ended")
    assert again.doubtful and again.suspect is None


@pytest.mark.parametrize("of_a_try", [True, False])
def test_a_note_that_cannot_be_written_blames_no_record(of_a_try: bool) -> None:
    """Also not a record that is tried alone, and was tried alone before. Records that are durable are passed."""
    suspect = Position(100, 0)
    doubt = Doubt(deaths=DEATHS, suspect=suspect, alone=DEATHS[:1], narrow=Position(102, 0))
    rig = Rig(lambda: plain(3), doubt, None)
    rig.notes.refuse = lambda doubt: fails() if (doubt.first is not None) == of_a_try else None
    with pytest.raises(Hindered):
        asyncio.run(rig.read())
    (freed,) = rig.notes.freed
    passed = doubt if of_a_try else doubt.passes(Position(102, 0).end_of_record)
    assert freed == passed.hinders()
    assert freed.deaths == DEATHS
    assert rig.letters == []


def test_progress_takes_hindrances_back() -> None:
    assert Doubt(deaths=DEATHS, hindered=1).passes(Position(1, 0)).hindered == 0


def test_a_task_that_dies_as_it_reads_is_hindered_too() -> None:
    """The task was killed before it had a record: by the answer itself, or by another record."""
    doubt = Doubt(deaths=DEATHS)
    for task in range(HINDERED):
        doubt = doubt.begun(f"careful-{task}")
    assert doubt.begun("kcl").doubtful is False


def test_a_lease_is_given_up_although_the_table_does_not_answer_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_leases, "FREE", replace(held_leases.FREE, first_s=0.0))
    rig = Rig(lambda: plain(3), Doubt(deaths=DEATHS), None)
    rig.notes.deaf = 3
    asyncio.run(rig.read())
    assert rig.notes.freed == [Doubt()]
