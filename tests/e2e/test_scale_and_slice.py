"""One worker follows a scale that was interrupted, and passes over a record. What came during the scale is read again
beside it: each record once.

The worker begins with the lease table of KCL 2.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e import permitted, replay_slice, shards
from tests.e2e.rig import Rig

KEY = "with-kcl-2"
"""The access key of the worker."""


def test_an_application_follows_a_scale_and_what_came_during_it_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**rig.aws.env, "XDG_STATE_HOME": str(rig.folder / "state")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(rig.folder)  # for the undo files
    rig.create(shards.FIRST)
    permitted.make_table_of_kcl_2(rig, rig.name)
    config = rig.config(kcl="failover_ms = 3000")
    worker = rig.start(config, AWS_ACCESS_KEY_ID=KEY)
    put(rig, "before", 60)
    rig.enriched(10)
    shards.a_scale_is_interrupted(rig, config)
    begin_ms = replay_slice.a_moment()
    put(rig, "within", 200)
    shards.an_interrupted_scale_goes_on(rig, config)
    put(rig, "within", 200)
    end_ms = replay_slice.a_moment()
    put(rig, "after", 60)
    rig.settle()
    assert set(rig.owners().values()) == {worker.id}
    assert len(rig.owners()) == shards.WANTED
    rig.expect_each_once()

    shards.a_record_is_passed_over(rig, config)
    assert worker.leave() == 0
    permitted.expect_rights_with_the_table_of_kcl_2(rig, permitted.names_of(rig.name, rig.name), KEY)
    replay_slice.a_slice_is_read_again(rig, config, begin_ms, end_ms, count=400)


def put(rig: Rig, what: str, count: int) -> None:
    rig.put([(json.dumps({"text": f"{what} {number}"}).encode(), f"{number}") for number in range(count)])
