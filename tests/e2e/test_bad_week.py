"""One application through a bad week, each day with the worker that the day before has left.

Its shard may not be read, its lease is deleted, and a second stream wants its name; a bad release comes as a canary,
and another fails on every record; then its stream is deleted and created again.
"""

from __future__ import annotations

import pytest

from tests.e2e import bad_release, unread
from tests.e2e.rig import Rig

CONFIG = {
    "model": 'factory = "tests.e2e.models:Echo"\nversion = "1"\nthreads = 1\ntimeout_s = 5',
    "health": f"stuck_after_s = {unread.STUCK_S}",
    "kcl": "failover_ms = 4000",
}


def test_an_application_through_a_bad_week(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.create(bad_release.SHARDS)
    config = rig.config(**CONFIG)
    for name, value in rig.aws.env.items():
        monkeypatch.setenv(name, value)

    service = unread.a_shard_that_may_not_be_read_is_reported(rig, config)
    unread.a_deleted_lease_is_made_again(rig)
    unread.a_second_stream_is_refused(rig, config)

    bad_release.a_bad_canary_is_rolled_back(rig, service)
    bad_release.its_dead_letters_become_rows(rig, config)
    assert service.leave() == 0
    bad_release.one_that_fails_on_everything_ends_itself(rig)
    service = bad_release.the_good_one_goes_on(rig, config)

    unread.a_stream_created_again_is_refused(rig, service, config)
    unread.after_a_reset_the_application_starts_again(rig, config)
