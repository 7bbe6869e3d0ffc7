"""Zombies that nothing waits for are reaped, and no others."""

from __future__ import annotations

from pipeline.reaper import LOOKS, Orphans, Zombie

ORPHAN, OURS = Zombie(7, 100), Zombie(8, 100)


def test_an_orphan_is_reaped_once_it_was_seen_often_enough() -> None:
    orphans = Orphans(set)
    assert [orphans.seen([ORPHAN]) for _ in range(LOOKS)] == [[]] * (LOOKS - 1) + [[7]]


def test_awaited_children_are_never_reaped() -> None:
    orphans = Orphans(lambda: {8})
    assert not any(orphans.seen([OURS]) for _ in range(10 * LOOKS))


def test_a_zombie_that_disappeared_is_counted_from_the_start() -> None:
    orphans = Orphans(set)
    for _ in range(10):
        assert not any(orphans.seen([ORPHAN]) for _ in range(LOOKS - 1))
        assert orphans.seen([]) == []


def test_an_id_that_came_again_is_another_process() -> None:
    orphans = Orphans(set)
    assert not any(orphans.seen([Zombie(7, started)]) for started in range(10 * LOOKS))
