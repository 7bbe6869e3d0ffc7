"""Which shards need a lease that KCL will not create, and which streams leases cannot belong to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.aws.shards import KnownShard
from consumer.leases.binding import foreign
from consumer.leases.leases import Lease
from consumer.leases.seed import holes
from pipeline.record import Position


def shards(**parents: str) -> dict[str, KnownShard]:
    """``c="ab"``: shard c is the child of a and b."""
    return {name: KnownShard(name, tuple(above)) for name, above in parents.items()}


def begun(name: str, **changes: Any) -> Lease:
    return lease(name, checkpoint=Position(7, 0), sentinel="", **changes)


def lease(name: str, *, ended: bool = False, parents: Sequence[str] = "", **changes: Any) -> Lease:
    sentinel = "SHARD_END" if ended else "TRIM_HORIZON"
    values = {"owner": "", "counter": 0, "checkpoint": None, "sentinel": sentinel, "parents": tuple(parents)}
    return Lease(**{"shard_id": name, "children": (), "draining_owner": "", **values, **changes})


SPLIT = shards(a="", b="a", c="a")
MERGE = shards(a="", b="", c="ab")
TWICE = shards(a="", b="a", c="a", d="b", e="b")


@pytest.mark.parametrize(
    ("known", "leases", "wanted"),
    [
        (SPLIT, [], "a"),
        (SPLIT, [lease("a")], ""),
        (SPLIT, [lease("a", ended=True)], "bc"),
        (SPLIT, [lease("a", ended=True), lease("b")], "c"),
        (SPLIT, [begun("b")], "c"),
        (SPLIT, [lease("b", sentinel="LATEST")], "c"),
        (SPLIT, [begun("b"), begun("c")], ""),
        (SPLIT, [lease("b"), lease("c")], "a"),
        (shards(b="a", c="a"), [], "bc"),
        (shards(b="a", c="a"), [lease("a")], "bc"),
        (MERGE, [], "ab"),
        (MERGE, [lease("a")], "b"),
        (MERGE, [lease("a", ended=True)], "b"),
        (MERGE, [lease("a", ended=True), lease("b", ended=True)], "c"),
        (MERGE, [lease("a", ended=True), lease("b")], ""),
        (MERGE, [lease("a", ended=True), lease("c")], "b"),
        (MERGE, [begun("c")], ""),
        (TWICE, [lease("a")], ""),
        (TWICE, [lease("a", ended=True)], "bc"),
        (TWICE, [begun("c")], "b"),
        (TWICE, [begun("d"), begun("c")], "e"),
        (TWICE, [begun("d", parents="b")], "ce"),
        (shards(d="b", e="b"), [begun("d", parents="b"), lease("b", ended=True, parents="a")], "e"),
    ],
)
def test_a_hole_is_a_shard_that_no_lineage_leads_to(
    known: dict[str, KnownShard], leases: list[Lease], wanted: str
) -> None:
    assert "".join(holes(known, leases)) == wanted


def grown(dice: random.Random) -> dict[str, KnownShard]:
    """A stream after some splits and merges."""
    known = {f"{n}": KnownShard(f"{n}") for n in range(dice.randint(1, 3))}
    current = list(known)
    for _ in range(dice.randint(0, 6)):
        merge = len(current) > 1 and dice.random() < 0.4
        parents = tuple(dice.sample(current, 2 if merge else 1))
        current = [shard for shard in current if shard not in parents]
        for _ in range(1 if merge else 2):
            name = f"{len(known)}"
            known[name] = KnownShard(name, parents)
            current.append(name)
    return known


def read_on(known: dict[str, KnownShard], dice: random.Random) -> tuple[dict[str, Lease], set[str]]:
    """Leases as KCL has them at some time while it reads, and the shards that were read to their ends."""
    leases = {name: lease(name) for name, shard in known.items() if not shard.parents}
    done: set[str] = set()
    children = {name: [child for child, shard in known.items() if name in shard.parents] for name in known}
    for _ in range(dice.randint(0, 30)):
        ready = [name for name in leases if name not in done and done >= set(known[name].parents)]
        name = dice.choice(sorted(ready))
        if leases[name].checkpoint is None or not children[name]:
            leases[name] = begun(name, parents=known[name].parents)
            continue
        done.add(name)
        for child in children[name]:
            leases.setdefault(child, lease(child, parents=known[child].parents))
        leases[name] = lease(name, ended=True, parents=known[name].parents)
        clean_up(leases, children, dice)
    return leases, done


def clean_up(leases: dict[str, Lease], children: dict[str, list[str]], dice: random.Random) -> None:
    """KCL deletes the lease of an ended shard once all its children have been started (``LeaseCleanupManager``)."""
    for name in sorted(leases):
        if (
            leases[name].ended
            and all(child not in leases or leases[child].checkpoint or leases[child].ended for child in children[name])
            and dice.random() < 0.5
        ):
            del leases[name]


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_nothing_is_made_while_kcl_keeps_every_lease(seed: int) -> None:
    dice = random.Random(seed)
    known = grown(dice)
    assert holes(known, read_on(known, dice)[0].values()) == []


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_for_any_lost_leases_everything_unread_will_be_read(seed: int) -> None:
    """After missing leases are created and KCL has read all that it reaches, nothing is left unread."""
    dice = random.Random(seed)
    known = grown(dice)
    leases, done = read_on(known, dice)
    reading = {name for name in leases if name not in done and leases[name].checkpoint is not None}
    for name in dice.sample(sorted(leases), dice.randint(0, len(leases))):
        del leases[name]
    wanted = holes(known, leases.values())
    leases |= {name: lease(name, parents=known[name].parents) for name in wanted}
    assert holes(known, leases.values()) == []
    come_to = {name for name in leases if not leases[name].ended}
    for name in known:
        if come_to & set(known[name].parents):
            come_to.add(name)
    assert set(known) - done - reading <= come_to
    assert reading - come_to == set()


STREAM = {
    "shardId-000000000004": KnownShard("shardId-000000000004", (), hash_keys=("0", "9"), first_sequence=100),
    "shardId-000000000005": KnownShard("shardId-000000000005", (), hash_keys=("10", "19"), first_sequence=200),
}


@pytest.mark.parametrize(
    ("number", "changes", "reason"),
    [
        (4, {}, None),
        (4, {"hash_keys": ("0", "9"), "checkpoint": Position(100, 0)}, None),
        (3, {"hash_keys": ("0", "19")}, None),
        (6, {}, "never had"),
        (5, {"hash_keys": ("0", "19")}, "other hash keys"),
        (5, {"checkpoint": Position(199, 7)}, "before the first record"),
    ],
)
def test_leases_tell_that_they_are_of_another_stream(number: int, changes: dict[str, Any], reason: str | None) -> None:
    said = foreign(STREAM, [lease("shardId-000000000004"), lease(f"shardId-{number:012}", **changes)])
    assert said is None if reason is None else reason in (said or "")
