"""Which tests begin first, and which stay in one process, when several processes share them (pytest's ``-n``).

End-to-end tests wait most of their time, for leases and time-outs of KCL. They begin first, the longest ones before the
others, in turns with simulations, which compute meanwhile. The very first makes the archive of Java's classes, which
the others need; until it is there, only simulations run beside it. The tests of a file run in one process, which starts
the file's server once; those of the folders in :data:`APART` are distributed one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

TESTS = Path(__file__).parents[1]

FIRST = (
    "e2e/test_operations.py",  # first: `penstock shards` looks at all applications of the local AWS
    "e2e/test_bad_week.py",
    "e2e/test_status.py",
    "e2e/test_scale_and_slice.py",
    "e2e/test_chaos.py",
    "e2e/test_takeover.py",
    "e2e/test_game_day.py",
    "e2e/test_restarts.py",
    "e2e/test_careful_readings.py",
    "e2e/test_rolling_restart.py",
    "e2e/test_reshard.py",
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

SLOW = (
    "cli/replay/test_archive.py",
    "cli/replay/test_rewind.py",
    "cli/replay/test_slice.py",
    "cli/test_commands.py",
    "cli/test_config_command.py",
    "cli/test_dead_letters.py",
    "cli/test_promote.py",
    "cli/test_status_terminal.py",
    "cli/test_try.py",
    "cli/test_tune.py",
    "docs/test_documents.py",
    "docs/test_model_examples.py",
    "property/test_answer_fuzz.py",
    "property/test_bad_record_costs.py",
    "property/test_batcher_properties.py",
    "property/test_bisection.py",
    "property/test_bounded.py",
    "property/test_config_fuzz.py",
    "property/test_dead_letter_limit.py",
    "property/test_diff.py",
    "property/test_doubt.py",
    "property/test_downstream.py",
    "property/test_hostile_exceptions.py",
    "property/test_kpl.py",
    "property/test_parquet_holds.py",
    "property/test_payload_fuzz.py",
    "property/test_protocol_fuzz.py",
    "property/test_redrive_plan.py",
    "property/test_rewind.py",
    "property/test_shards_planner.py",
    "property/test_shown.py",
    "property/test_timely.py",
    "property/test_values.py",
    "unit/admin/test_status_diagnose.py",
    "unit/aws/test_put.py",
    "unit/batching/test_length_buckets.py",
    "unit/dead_letters/test_dead_letter_limit.py",
    "unit/examples/test_corpus.py",
    "unit/examples/test_demo_report.py",
    "unit/examples/test_minilm.py",
    "unit/letters/test_redrive.py",
    "unit/local/test_local_engine.py",
    "unit/table/test_audit_mutations.py",
    "unit/table/test_strays.py",
    "unit/test_chaos.py",
    "unit/test_security.py",
)
"""Files below ``tests`` that start no JVM and still take more than a second. ``make test-fast`` leaves them out."""

TORCH = (
    "docs/test_model_examples.py",
    "property/test_values.py",
    "unit/examples/test_gpu_copy.py",
    "unit/examples/test_minilm.py",
    "unit/examples/test_reference_1gb.py",
    "unit/model/test_arrow_rows.py",
    "unit/model/test_results.py",
    "unit/test_security.py",
)
"""Files that import torch, which takes two seconds: they share a process."""

APART = ("e2e", "property", "simulation")

TOGETHER = ("cli/replay/",)
"""Folders whose files share a server, in one process."""

BESIDE = 16
"""How many simulations begin before the second end-to-end test: two in each process."""

BETWEEN = 3
"""How many begin after each end-to-end test from then on."""


def arrange(items: list[pytest.Item]) -> None:
    """Sort the tests."""
    items.sort(key=lambda item: rank(_place(item)))
    waiting, computing = (
        [item for item in items if _place(item).startswith(folder)] for folder in ("e2e/", "simulation/")
    )
    others = [item for item in items if not _place(item).startswith(("e2e/", "simulation/"))]
    items[:] = [*in_turns(waiting, computing), *others]


def in_turns(waiting: Sequence[T], computing: Sequence[T]) -> Iterator[T]:
    """The first that waits, :data:`BESIDE` that compute, then each that waits with :data:`BETWEEN` that compute."""
    left = iter(computing)
    for number, each in enumerate(waiting):
        yield each
        yield from islice(left, BETWEEN if number else BESIDE)
    yield from left


def group_of(place: str) -> str | None:
    """The name that tests of one process have in common, by their file. None: each test may run in any process."""
    if place in TORCH:
        return "torch"
    if folder := next((each for each in TOGETHER if place.startswith(each)), None):
        return folder
    return None if place.partition("/")[0] in APART else place


def mark(item: pytest.Item) -> None:
    """Mark a slow test, before ``-m`` selects."""
    if _place(item) in SLOW:
        item.add_marker(pytest.mark.slow)


def rank(place: str) -> int:
    """The place of a test's file or folder in :data:`FIRST`."""
    return next((number for number, each in enumerate(FIRST) if place.startswith(each)), len(FIRST))


def _place(item: pytest.Item) -> str:
    return _below_tests(item.path)


@cache
def _below_tests(path: Path) -> str:
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.as_posix()
