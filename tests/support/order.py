"""Which tests begin first, and which stay in one process, when several processes share them (``--dist loadgroup``).

End-to-end tests wait most of their time, for leases and time-outs of KCL. They begin first, the longest ones before the
others, and tests that compute run while they wait. The tests of a file run in one process, which starts the file's
server once; those of the folders in :data:`APART` are distributed one by one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FIRST = (
    "e2e/test_operations.py",
    "e2e/test_two_thousand_records.py",
    "e2e/test_chaos.py",
    "e2e/test_status.py",
    "e2e/test_replay_slice.py",
    "e2e/test_bad_release.py",
    "e2e/test_game_day.py",
    "e2e/test_way_past.py",
    "e2e/test_unread.py",
    "e2e/test_rolling_restart.py",
    "e2e/test_frozen_leader.py",
    "e2e/test_takeover.py",
    "e2e/test_shards.py",
    "e2e/test_reshard.py",
    "e2e/test_restarts.py",
    "e2e/",
    "contract/life/",
    "contract/local/",
    "contract/replicas/",
    "contract/kcl/",
    "notebooks/",
    "contract/",
    "simulation/",
    "property/",
    "cli/",
    "docs/",
    "unit/",
)
"""Prefixes of paths below ``tests``, in the order in which their tests begin."""

APART = ("e2e", "property", "simulation")


def arrange(items: list[pytest.Item]) -> None:
    """Sort the tests, and mark those that stay together."""
    items.sort(key=lambda item: rank(_place(item)))
    for item in items:
        place = _place(item)
        if place.partition("/")[0] not in APART:
            item.add_marker(pytest.mark.xdist_group(place))


def rank(place: str) -> int:
    """The place of a test's file or folder in :data:`FIRST`."""
    return next((number for number, each in enumerate(FIRST) if place.startswith(each)), len(FIRST))


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else item.path.as_posix()
