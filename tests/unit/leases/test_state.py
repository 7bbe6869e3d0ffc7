"""One reader for both layouts of KCL's tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consumer.leases import worker_notes
from consumer.leases.state import ONE_TABLE, THREE_TABLES, ApplicationState, Migration, one_table_refusal, state_of
from consumer.leases.worker_notes import WorkerNote
from pipeline.errors import UserError
from tests.support import kcl_layouts
from tests.support.kcl_layouts import BINDING, LEFT, MIGRATED_MS, PARENT, REPORTED_S, RIGHT, migration


def three(*more: dict[str, Any]) -> ApplicationState:
    leases, metrics, coordinator = kcl_layouts.three_tables()
    return state_of("app", leases, metrics, [*coordinator, *more])


def test_both_layouts_say_the_same() -> None:
    one, before = state_of("app", kcl_layouts.one_table(), None, [BINDING]), three()
    assert (before.layout, one.layout) == (THREE_TABLES, ONE_TABLE)
    assert before.migration == Migration(client="CLIENT_VERSION_3X")
    assert one.migration == Migration("COMPLETE", MIGRATED_MS / 1000, "CLIENT_VERSION_3X")
    assert replace(one, layout=before.layout, migration=before.migration) == before


def test_a_lease_has_every_field_and_its_item() -> None:
    lease = three().lease(LEFT)
    assert lease is not None
    assert (lease.owner, lease.draining_owner, lease.holder) == ("b", "a", "a")
    assert (lease.counter, lease.switches, lease.throughput_kbps, lease.pending) == (7, 1, 12.5, "")
    assert lease.parents == (PARENT,)
    assert lease.raw["leaseCounter"] == {"N": "7"}


def test_workers_leader_and_binding() -> None:
    state = three()
    assert [lease.shard_id for lease in state.leases] == [PARENT, LEFT, RIGHT]
    assert {name: (each.reported_s, each.failing) for name, each in state.workers.items()} == {
        "a": (REPORTED_S, ()),
        "b": (REPORTED_S, ("CPU",)),
    }
    assert state.leader is not None
    assert (state.leader.worker, state.leader.lasts_s) == ("a", 120)
    assert state.binding is not None
    assert state.binding.stream == "events"


def test_a_released_lock_has_no_leader() -> None:
    leases, metrics, (leader, *rest) = kcl_layouts.three_tables()
    assert state_of("app", leases, metrics, [{**leader, "isReleased": {"S": "1"}}, *rest]).leader is None


@pytest.mark.parametrize("status", ["INIT", "DEPLOYED"])
def test_while_workers_still_write_the_old_tables_they_count(status: str) -> None:
    state = three(migration(status, "key"))
    assert (state.layout, state.migration.table) == (THREE_TABLES, status)


def test_of_two_items_the_newer_counts_while_an_application_moves() -> None:
    leases, metrics, coordinator = kcl_layouts.three_tables()
    moved = [item for item in kcl_layouts.one_table() if "lut" in item or "ownerName" in item]
    moved[0]["lut"] = {"N": str(REPORTED_S + 30)}
    moved[-1]["ownerName"] = {"S": "b"}
    pending = [*leases, *moved, migration("PENDING", at_ms=MIGRATED_MS + 1)]
    state = state_of("app", pending, metrics, [*coordinator, migration("DEPLOYED", "key")])
    assert (state.layout, state.migration.table) == (ONE_TABLE, "PENDING")
    assert state.workers["a"].reported_s == REPORTED_S + 30
    assert state.leader is not None
    assert state.leader.worker == "b"


def test_items_that_are_not_leases_are_ignored() -> None:
    strange = [
        {"leaseKey": {"S": "some-worker"}, "entityType": {"S": "NEW_KIND"}, "checkpoint": {"S": "1"}},
        {"leaseKey": {"S": "no checkpoint"}},
    ]
    assert state_of("app", strange, None, None).leases == ()


def test_a_lease_that_kcl_has_not_written_is_named() -> None:
    broken = {"leaseKey": {"S": "shard"}, "checkpoint": {"S": "1"}}
    with pytest.raises(UserError, match='"shard" in the lease table'):
        state_of("app", [broken], None, None)


def test_notes_of_workers_are_read_beside_kcls_items() -> None:
    item = {
        "key": {"S": f"{worker_notes.PREFIX}a"},
        "url": {"S": "http://10.0.0.7:8080"},
        "host": {"S": "task-a"},
        "at": {"N": "5.5"},
        "stats": {"S": '{"queue":3}'},
    }
    assert three(item).notes == {"a": WorkerNote("a", "http://10.0.0.7:8080", "task-a", 5.5, {"queue": 3})}
    assert three({**item, "stats": {"S": "["}}).notes == {
        "a": WorkerNote("a", "http://10.0.0.7:8080", "task-a", 5.5, {})
    }


def test_a_worker_may_join_where_the_lease_table_holds_leases_alone() -> None:
    leases, _, _ = kcl_layouts.three_tables()
    assert one_table_refusal("app", leases) == ""
    assert one_table_refusal("app", kcl_layouts.leases(entityType={"S": "LEASE"})) == "", "KCL 3.5, not migrated"
    alone = [item for item in kcl_layouts.one_table() if item.get("entityType") != {"S": "LEASE"}]
    refusing = [item for item in alone if one_table_refusal("app", [*leases, item])]
    kinds = {item["entityType"]["S"] for item in refusing}
    assert kinds == {"WORKER_METRIC_STATS", "LEADER", "TABLE_MIGRATION"}


def test_a_note_is_outdated_after_an_hour() -> None:
    notes = [WorkerNote(name, "", "", at_s, {}) for name, at_s in (("old", 0.0), ("young", 3000.0))]
    assert worker_notes.outdated(notes, 3601.0) == ["old"]
