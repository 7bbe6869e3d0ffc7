"""LATEST is fixed once, for all workers and restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import Fatal
from pipeline.sinks.genesis import fix_start
from pipeline.sinks.store import MemoryStore

NOW = datetime(2026, 11, 23, 8, 0, 0, 999, tzinfo=UTC)


def test_everybody_begins_where_the_first_did() -> None:
    store = MemoryStore()
    first = fix_start(store, "app", NOW)
    assert datetime.fromisoformat(first) == NOW.replace(microsecond=0)
    assert fix_start(store, "app", NOW + timedelta(days=1)) == first
    assert fix_start(store, "other", NOW + timedelta(days=1)) != first
    assert sorted(store.objects) == ["app.json", "other.json"]


def test_a_start_that_somebody_deletes_is_no_start() -> None:
    store = MemoryStore()
    fix_start(store, "app", NOW)
    store.get = lambda key: None  # type: ignore[method-assign]
    with pytest.raises(Fatal, match="deleting"):
        fix_start(store, "app", NOW)
