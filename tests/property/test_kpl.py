"""Our reader of KPL aggregates, compared with protobuf's own, and with random bytes."""

from __future__ import annotations

import random
from contextlib import suppress

from aws_kinesis_agg.deaggregator import messages_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from consumer.testing.aggregates import field, sealed, user
from pipeline.aggregate import Aggregate, aggregate_or_record
from pipeline.kpl import AggregateMessage, Malformed, message
from pipeline.record import Dead, Position, Record
from tests.support.fuzz_inputs import BATCH, Dice, mangled, repeatable

SEEDS = 40
TEST = "tests/property/test_kpl.py"
KEYS = st.lists(st.text(max_size=5), min_size=1, max_size=200)
USERS = st.lists(st.tuples(st.integers(0, 250), st.none() | st.integers(0, 3), st.binary(max_size=300)), max_size=40)


def record(data: bytes) -> Record:
    return Record("shard", data, "own", "7", 0, 1)


def all_of(held: Record, dice: random.Random) -> list[Record]:
    """The user records, taken in pieces of these sizes."""
    taken: list[Record] = []
    while isinstance(held, Aggregate) and held.left:
        taken += held.take(dice.randrange(1, 9), dice.randrange(1, 5_000))
    return taken or [held]


@given(KEYS, USERS.filter(bool), st.randoms())
def test_messages_of_protobuf_are_read_correctly(
    keys: list[str], users: list[tuple[int, int | None, bytes]], dice: random.Random
) -> None:
    hashes = ("7", "x", str(2**128))
    written = messages_pb2.AggregatedRecord(partition_key_table=keys, explicit_hash_key_table=hashes)
    for key, explicit, data in users:
        one = written.records.add(partition_key_index=key, explicit_hash_key_index=explicit, data=data)
        one.tags.add(key="tag", value="value")
    found = all_of(aggregate_or_record(record(sealed(written.SerializeToString()))), dice)
    assert [each.data for each in found] == [data for _, _, data in users]
    assert [each.partition_key for each in found] == [keys[key] if key < len(keys) else None for key, _, _ in users]
    good = [key < len(keys) and explicit in (None, 0) for key, explicit, _ in users]
    assert [each.outcome is None for each in found] == good
    assert [each.position for each in found] == [Position(7, sub) for sub in range(len(users))]
    assert [each.whole for each in found] == [False] * (len(users) - 1) + [True]


def mangled_message(dice: Dice) -> bytes:
    tables = b"".join(field(dice.choice((1, 1, 2)), b"%d" % n) for n in range(dice.below(4)))
    users = b"".join(
        user(dice.randbytes(dice.choice((0, 3, 200))), dice.below(3), dice.choice((None, None, 0, 1)))
        for _ in range(dice.below(6))
    )
    return mangled(dice, tables + users)


def test_of_any_bytes_all_is_accounted_for_and_protobuf_reads_no_more() -> None:
    """Messages that protobuf accepts are accepted by us, too; some that it refuses may be accepted."""
    readable = 0
    for seed in range(SEEDS):
        with repeatable(seed, TEST):
            dice = Dice(seed)
            for _ in range(BATCH):
                body = mangled_message(dice)
                found = all_of(aggregate_or_record(record(sealed(body))), dice)
                assert [each.sub for each in found] == list(range(len(found))) and found[-1].whole
                theirs = messages_pb2.AggregatedRecord()
                with suppress(DecodeError):
                    theirs.ParseFromString(body)
                    if body and theirs.IsInitialized() and theirs.records:
                        readable += 1
                        assert [each.data for each in found] == [each.data for each in theirs.records]
    assert readable > SEEDS * BATCH / 20


@given(st.binary(max_size=200))
def test_any_bytes_are_read_in_bounded_time_and_memory(body: bytes) -> None:
    try:
        found = message(sealed(body))
    except Malformed:
        return
    assert found is None or (
        isinstance(found, AggregateMessage) and len(list(found.users())) == found.count <= len(body)
    )


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(0, 12))
def test_going_on_within_an_aggregate_is_as_if_one_had_not_stopped(data: bytes, count: int, sub: int) -> None:
    body = field(1, b"k") + b"".join(user(data + b"%d" % n, n % 2) for n in range(count + 1))
    dice = Dice(count)
    whole = all_of(aggregate_or_record(record(sealed(body))), dice)
    rest = aggregate_or_record(record(sealed(body)))
    assert isinstance(rest, Aggregate)
    skipped = rest.skip(Position(7, sub))
    assert skipped == min(sub + 1, count + 1)
    left = all_of(rest, dice) if rest.left else []
    assert [(each.position, each.data, each.whole) for each in left] == [
        (each.position, each.data, each.whole) for each in whole[skipped:]
    ]
    assert all(each.outcome is None or isinstance(each.outcome, Dead) for each in left)
