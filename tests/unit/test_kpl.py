"""KPL's format, case by case: what is an aggregate, what it contains, and what happens to its errors."""

from __future__ import annotations

import re

import pytest

from consumer.testing.aggregates import aggregate, field, sealed, user, varint
from pipeline.hash_keys import HASH_KEYS, KEY_CHARACTERS, HashRange, bounded, hash_key, hash_of
from pipeline.kpl import KEYS_KEPT, MAGIC, AggregateMessage, Malformed, message


def made(body: bytes) -> AggregateMessage:
    found = message(sealed(body))
    assert found is not None
    return found


def faults(body: bytes) -> list[str]:
    return [fault for _, _, _, fault in made(body).users()]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", MAGIC, sealed(b""), aggregate([b"x"])[:-1] + b"?", aggregate([b"x"])[:-3], b"?" + aggregate([b"x"])],
    ids=["empty", "plain", "magic alone", "no message", "another checksum", "cut off", "another beginning"],
)
def test_data_without_the_right_checksum_is_a_plain_record(data: bytes) -> None:
    assert message(data) is None


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (field(1, b"k"), "no user record"),
        (b"\x1a", "more than 10 bytes|cut off"),
        (b"\x1a\x05ab", "cut off"),
        (b"\x1a" + varint(2**63), "cut off"),
        (b"\x1a" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x00\x01", "without a number"),
        (user(b"x") + b"\x2c", "unknown type"),
        (user(b"x") + b"\x2b", "cut off"),
        (user(b"x") + b"\x2e", "unknown type"),
        (user(b"x") + b"\x2b" * 500, "unknown type"),
        (user(b"x") + b"\x29ab", "cut off"),
    ],
)
def test_a_message_that_cannot_be_read_says_why(body: bytes, complaint: str) -> None:
    with pytest.raises(Malformed, match=complaint):
        message(sealed(body))


def test_keys_may_come_after_their_records_and_unknown_fields_are_skipped() -> None:
    unknown = b"\x28\x96\x01" + b"\x31" + b"12345678" + b"\x3d" + b"1234" + b"\x43\x08\x01\x44" + field(9, b"what")
    body = unknown + user(b"1", 1) + unknown + field(1, b"a") + user(b"2") + field(1, b"b") + b"\x9a\x00\x00"
    assert list(made(body + user(b"3")).users())[:2] == [(b"1", "b", 65, ""), (b"2", "a", 65, "")]
    assert made(body).count == 3


def test_tags_and_unknown_fields_of_a_user_record_are_passed_over_and_the_last_of_two_counts() -> None:
    inner = (
        b"\x08\x07" + field(3, b"first") + field(4, field(1, b"tag")) + b"\x08\x00" + field(3, b"last") + b"\x28\x01"
    )
    assert list(made(field(1, b"k") + field(3, inner)).users()) == [(b"last", "k", 65, "")]


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        (user(b"x", 7), "partition key 7 of an aggregate that has 1"),
        (user(b"x", 2**64 - 1), "partition key 18446744073709551615"),
        (user(b"x", 0, 1), "explicit hash key 1 of an aggregate that has 1"),
        (user(b"x", 0, 0), "not a decimal"),
        (field(3, b"\x08\x00"), "no data"),
        (field(3, field(3, b"x")), "no partition key"),
        (field(3, b""), "no partition key"),
        (field(3, b"\x08\x00\x1a\x7fx"), "cut off"),
        (field(3, b"\x08\x00\x1a"), "cut off|more than 10"),
        (field(3, b"\x0b\x00\x1a\x01x"), "cannot be read"),
    ],
)
def test_an_invalid_user_record_affects_no_other(one: bytes, complaint: str) -> None:
    tables = field(1, b"k") + field(2, b"ff00")
    before, fault, after = faults(tables + user(b"a") + one + user(b"b"))
    assert before == after == ""
    assert re.search(complaint, fault)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("00000000000000000000000000000000000000000000007", 7),
        (str(HASH_KEYS - 1), HASH_KEYS - 1),
        ("+5", 5),
        ("-0", 0),
        (str(HASH_KEYS), None),
        ("-1", None),
        ("", None),
        ("ff00", None),
        ("1_0", None),
        (" 1", None),
        ("1.0", None),
        ("٣", None),
        ("9" * 10_000, None),
    ],
)
def test_a_hash_key_is_a_decimal_below_2_to_the_128(text: str, number: int | None) -> None:
    assert hash_key(text) == number


def test_keys_are_shared_and_weigh_once() -> None:
    keys = "K" * 20_000
    users = list(message(aggregate([b""] * 4_000, [keys])).users())  # type: ignore[union-attr]
    assert len({id(key) for _, key, _, _ in users}) == 1
    assert sum(key_bytes for _, _, key_bytes, _ in users) < 1_000


def test_a_key_that_is_longer_than_any_of_kinesis_is_bounded_and_stays_another_than_its_neighbours() -> None:
    longest, keys = "é" * KEY_CHARACTERS, ["é" * 257, "é" * 300_000, "é" * 299_999 + "e"]
    assert bounded(longest) == longest
    kept = [bounded(key) for key in keys]
    assert len(set(kept)) == 3 and max(map(len, kept)) <= KEY_CHARACTERS
    assert kept[1].startswith("é" * 180 + "…300000:") and kept == [bounded(key) for key in keys]


def test_a_long_key_is_placed_by_its_full_length() -> None:
    key = "K" * 20_000
    for within, misplaced in ((HashRange(hash_of(key), hash_of(key)), False), (HashRange(0, 0), True)):
        held = message(aggregate([b""] * 3, [key]))
        assert held is not None
        held.within = within
        assert len(list(held.users())) == 3 and held.misplaced == misplaced


def test_of_many_keys_some_are_held_at_a_time() -> None:
    count = 3 * KEYS_KEPT
    body = b"".join(field(1, b"%d" % n) for n in range(count)) + b"".join(user(b"", n) for n in range(count))
    many = made(body)
    assert [key for _, key, _, _ in many.users()] == [str(n) for n in range(count)]
    assert len(many._names) <= KEYS_KEPT
    assert many.weight < 3 * len(body)


@pytest.mark.parametrize("size", [0, 1, 24, 25, 26, 127, 128, 129, 16_383, 16_384])
def test_each_user_record_has_its_own_key_and_data_however_many_and_long_they_are(size: int) -> None:
    """Of 3,328 keys the index looks like bytes of two others; 16,384 bytes have a length of three bytes."""
    count = 3_500 if size < 1_000 else 40
    tables = b"".join(field(1, b"k%d" % number) for number in range(count))
    users = b"".join(user((b"%d" % number).zfill(size), number) for number in range(count))
    read = [(data, key) for data, key, _, _ in AggregateMessage(sealed(tables + users)).users()]
    assert read == [((b"%d" % number).zfill(size), f"k{number}") for number in range(count)]


def test_an_aggregate_in_an_aggregate_is_a_payload() -> None:
    inner = aggregate([b"x"])
    assert [data for data, _, _, _ in made(field(1, b"k") + user(inner)).users()] == [inner]


def test_a_user_record_of_another_shard_shows_once_it_is_handed_out() -> None:
    whole = made(field(1, b"a") + field(1, b"b") + user(b"1", 0) + user(b"2", 1))
    whole.within = HashRange(hash_of("a"), hash_of("a"))
    users = whole.users()
    next(users)
    assert not whole.misplaced
    next(users)
    assert whole.misplaced
    explicit = made(field(1, b"a") + field(2, b"7") + user(b"1", 0, 0))
    explicit.within = HashRange(0, 8)
    assert list(explicit.users()) and not explicit.misplaced
    explicit.within = HashRange(8, HASH_KEYS)
    explicit._explicit.clear()
    assert list(explicit.users()) and explicit.misplaced


def test_skipped_user_records_cost_nothing_and_count() -> None:
    whole = made(field(1, b"k") + b"".join(user(b"%d" % n) for n in range(10)))
    assert [data for data, _, _, _ in whole.users(7)] == [b"7", b"8", b"9"]
