"""When a leader is considered dead: never while it lives, always when it is dead; and only what it really held is
taken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from consumer.leases.leases import Lease
from consumer.leases.reassign import OrphanedLease
from consumer.leases.takeover import GAP_S, LeaderObservation, LeaderWatch, Takeover

ME, LEADER, OTHER = "me", "leader", "other"
FAILOVER_S, REPORT_S = 10.0, 5.0
GLANCE_S, CLOSE_S = 2.5, 1.0
SOON_S = 24.0
"""The longest time from a leader's last sign of life to the takeover: 7.5 s to suspect it, 12 s to be sure, and the
looks."""


def lease(shard: str, owner: str, counter: int = 1, draining: str = "") -> Lease:
    return Lease(shard, owner, counter, None, "TRIM_HORIZON", (), (), draining)


def watch(me: str = ME) -> LeaderWatch:
    return LeaderWatch(me, failover_s=FAILOVER_S, report_s=REPORT_S)


class Table:
    """KCL's tables, and a watch that looks at them; every read takes ``read_s``."""

    def __init__(self, leader_watch: LeaderWatch | None = None, read_s: float = 0.1) -> None:
        self.now = 100.0
        self.leader, self.version = LEADER, "v1"
        self.reports: dict[str, int] = {LEADER: 1000, ME: 1000, OTHER: 1000}
        self.leases = {"s1": lease("s1", LEADER), "s2": lease("s2", ME), "s3": lease("s3", OTHER)}
        self.watch = leader_watch or watch()
        self.read_s = read_s

    def look(self) -> Takeover | None:
        close = self.watch.close
        reports: Mapping[str, int] = {who: at for who, at in self.reports.items() if close or who == self.leader}
        began, self.now = self.now, self.now + self.read_s
        leases = dict(self.leases) if close else None
        return self.watch.look(LeaderObservation(began, self.now, self.leader, self.version, dict(reports), leases))

    def wait(self) -> None:
        self.now += CLOSE_S if self.watch.close else GLANCE_S

    def renew(self, worker: str) -> None:
        for shard, held in self.leases.items():
            if held.holder == worker:
                self.leases[shard] = replace(held, counter=held.counter + 1)

    def report(self, worker: str) -> None:
        self.reports[worker] = self.reports.get(worker, 0) + 5

    def living_go_on(self) -> None:
        for worker in (ME, OTHER):
            self.report(worker)
            self.renew(worker)

    def until_takeover(self, longest_s: float = 120.0) -> Takeover | None:
        """Look while the leader is silent and the others live."""
        end = self.now + longest_s
        while self.now < end:
            if takeover := self.look():
                return takeover
            self.wait()
            self.living_go_on()
        return None


def test_a_leader_without_any_sign_of_life_is_taken_for_dead_in_time() -> None:
    table = Table()
    began = table.now
    takeover = table.until_takeover()
    assert takeover is not None
    assert FAILOVER_S < table.now - began <= SOON_S
    assert takeover.holdings == (OrphanedLease("s1", LEADER, LEADER, "", 1),)
    assert (takeover.leader, takeover.version, takeover.report) == (LEADER, "v1", 1000)
    assert takeover.load == {ME: 1, OTHER: 1}


@pytest.mark.parametrize("sign", ["version", "report", "counter"])
def test_one_sign_of_life_prevents_a_takeover(sign: str) -> None:
    table = Table()
    for turn in range(200):
        assert table.look() is None
        table.wait()
        table.living_go_on()
        if sign == "version" and turn % 9 == 0:
            table.version += "'"
        if sign == "report" and turn % 3 == 0:
            table.report(LEADER)
        if sign == "counter" and turn % 3 == 0:
            table.renew(LEADER)


def test_a_leader_that_comes_back_is_watched_from_the_beginning() -> None:
    table = Table()
    while table.now < 100 + SOON_S - 6:
        assert table.look() is None
        table.wait()
        table.living_go_on()
    table.report(LEADER)
    back = table.now
    assert table.until_takeover() is not None
    assert table.now - back > FAILOVER_S + REPORT_S


def test_a_worker_does_not_watch_itself() -> None:
    assert Table(watch(LEADER)).until_takeover() is None


def test_without_a_leader_there_is_no_takeover() -> None:
    table = Table()
    table.leader = ""
    assert table.until_takeover() is None


def test_time_in_which_nothing_could_be_read_counts_for_nothing() -> None:
    """DynamoDB could not be reached, by the leader either; or this worker was frozen."""
    table = Table()
    while not table.watch.close:
        table.look()
        table.wait()
    table.now += GAP_S
    began = table.now
    assert table.until_takeover() is not None
    assert table.now - began > FAILOVER_S + REPORT_S


def test_a_read_that_took_long_counts_for_nothing_either() -> None:
    table = Table()
    table.look()
    table.read_s = 60.0
    assert table.look() is None
    table.read_s = 0.1
    assert table.look() is None
    assert not table.watch.close


def test_while_a_leader_lives_leases_are_not_read() -> None:
    table = Table()
    for _ in range(100):
        table.look()
        assert not table.watch.close
        table.wait()
        table.report(LEADER)


def test_a_leader_that_never_reported_is_given_the_time_of_a_heartbeat() -> None:
    table = Table()
    del table.reports[LEADER]
    began = table.now
    takeover = table.until_takeover()
    assert takeover is not None
    assert takeover.report is None
    assert table.now - began > 40 + FAILOVER_S


def test_a_lease_that_the_dead_leader_was_given_meanwhile_is_taken_no_sooner_than_it_expires() -> None:
    table = Table()
    while not table.watch.close:
        table.look()
        table.wait()
        table.living_go_on()
    for _ in range(5):
        table.look()
        table.wait()
        table.living_go_on()
    table.leases["s4"] = lease("s4", LEADER, 7)
    given = table.now
    takeover = table.until_takeover()
    assert takeover is not None
    assert table.now - given > FAILOVER_S
    assert [held.shard_id for held in takeover.holdings] == ["s1", "s4"]


def test_the_leases_of_all_dead_workers_are_passed_on() -> None:
    table = Table()
    for turn in range(100):
        takeover = table.look()
        if takeover is not None:
            break
        table.wait()
        table.report(ME)
        table.renew(ME)
        assert turn < 99
    assert takeover is not None
    assert {held.shard_id: held.gone for held in takeover.holdings} == {"s1": LEADER, "s3": OTHER}
    assert takeover.load == {ME: 1}


def test_a_worker_that_reports_keeps_a_lease_that_stands_still() -> None:
    """For example, its shard has ended."""
    table = Table()
    table.renew = lambda worker: None  # type: ignore[method-assign]
    takeover = table.until_takeover()
    assert takeover is not None
    assert [held.gone for held in takeover.holdings] == [LEADER]


def test_a_lease_that_the_leader_drained_for_another_goes_to_that_one() -> None:
    table = Table()
    table.leases["s1"] = lease("s1", OTHER, 3, draining=LEADER)
    takeover = table.until_takeover()
    assert takeover is not None
    assert takeover.holdings == (OrphanedLease("s1", LEADER, OTHER, LEADER, 3),)
    assert takeover.load == {ME: 1, OTHER: 2}


def test_a_lease_drained_for_the_leader_is_passed_on_for_any_counter() -> None:
    """The worker that drains it renews it; but no worker would begin after the drain."""
    table = Table()
    table.leases["s2"] = lease("s2", LEADER, 3, draining=ME)
    takeover = table.until_takeover()
    assert takeover is not None
    assert takeover.holdings[1:] == (OrphanedLease("s2", LEADER, LEADER, ME),)


def test_a_lease_without_an_owner_is_not_taken() -> None:
    table = Table()
    table.leases["s4"] = lease("s4", "")
    takeover = table.until_takeover()
    assert takeover is not None
    assert [held.shard_id for held in takeover.holdings] == ["s1"]


def test_without_reports_leases_are_left_free() -> None:
    """A single worker that starts after the death of the last: its JVM does not run yet."""
    table = Table()
    table.leases = {"s1": lease("s1", LEADER)}
    table.living_go_on = lambda: None  # type: ignore[method-assign]
    takeover = table.until_takeover()
    assert takeover is not None
    assert takeover.load == {}
    assert [held.shard_id for held in takeover.holdings] == ["s1"]


# -- a leader's life, seeded


def life(random_: random.Random, dies_s: float, missing: float) -> Iterator[tuple[float, str]]:
    """The signs of life of a slow leader: each comes late, and some are missing."""
    for sign, every_s in (("counter", FAILOVER_S / 3), ("report", REPORT_S), ("version", 30.0)):
        at_s = random_.uniform(0, every_s)
        while at_s < dies_s:
            if random_.random() >= missing:
                yield at_s, sign
            at_s += every_s * random_.uniform(1, 1.8)


def simulate(seed: int, dies_s: float, until_s: float, missing: float) -> tuple[float | None, float]:
    """When the leader was considered dead, and its last sign of life before that."""
    random_ = random.Random(seed)
    table = Table(read_s=random_.uniform(0.01, 1.5))
    table.now = 0.0
    signs = sorted(life(random_, dies_s, missing))
    last_s = 0.0
    while table.now < until_s:
        while signs and signs[0][0] <= table.now:
            last_s, sign = signs.pop(0)
            if sign == "version":
                table.version += "'"
            elif sign == "report":
                table.report(LEADER)
            else:
                table.renew(LEADER)
        if table.look() is not None:
            return table.now, last_s
        table.wait()
        table.now += random_.uniform(0, 1.0)
        table.living_go_on()
    return None, last_s


@pytest.mark.parametrize("seed", range(40))
def test_a_leader_is_taken_for_dead_only_after_a_silence_and_then_soon(seed: int) -> None:
    """For any jitter: not while any sign of life is younger than the lifetime of a lease."""
    dead_s, last_s = simulate(seed, dies_s=100.0, until_s=200.0, missing=0.3)
    assert dead_s is not None
    assert dead_s - last_s > FAILOVER_S + REPORT_S
    assert dead_s - max(last_s, 90.0) < 2 * SOON_S


@pytest.mark.parametrize("seed", range(40))
def test_a_slow_leader_that_lives_is_not_taken_over(seed: int) -> None:
    assert simulate(seed, dies_s=600.0, until_s=600.0, missing=0.0)[0] is None
