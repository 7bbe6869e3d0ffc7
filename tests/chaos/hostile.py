"""Random KPL aggregates of kinds that once made a table unreadable, ended the JVM, filled memory, or were lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from consumer.testing.aggregates import aggregate, field, sealed, user

Next = Callable[[], int]
"""Returns the number of the next record."""

LARGEST_KEY = 20_000
EMPTIES, LONG_KEYED, HUGE = 97_000, 4_000, 170_000
HUGE_ONES, BACKLOG, BACKLOG_BYTES = 3, 210, 50_000
LIGHT_BYTES = 24


@dataclass(frozen=True, slots=True)
class Put:
    """One record for Kinesis, which may be an aggregate. ``hash_key`` sends it to the shard of its user records' key if
    that key is too long for Kinesis."""

    data: bytes
    key: str
    hash_key: str = ""

    def entry(self, *, keyless: bool) -> dict[str, str | bytes]:
        """The entry for PutRecords; without a key if the stream accepts that."""
        explicit = {"ExplicitHashKey": self.hash_key} if self.hash_key else {}
        return {"Data": self.data} if keyless else {"Data": self.data, "PartitionKey": self.key, **explicit}


def light(number: int) -> bytes:
    """A small healthy record, for which the model needs no time."""
    return json.dumps({"n": number, "do": ""}).encode().ljust(LIGHT_BYTES)


BROKEN: dict[str, Callable[[bytes, bytes], bytes]] = {
    "hash key that is text": lambda good, last: sealed(good + user(last, 0, 0)),
    "hash key too large": lambda good, last: sealed(good + user(last, 0, 1)),
    "hash key that is good": lambda good, last: sealed(good + user(last, 0, 2)),
    "hash key that is not there": lambda good, last: sealed(good + user(last, 0, 9)),
    "key that is not there": lambda good, last: sealed(good + user(last, 7)),
    "cut off": lambda good, last: sealed(good + b"\x1a\x7f" + last),
    "no protobuf": lambda good, last: sealed(good + b"\xff" * 40),
    "no user record": lambda good, last: sealed(field(1, last)),
    "one within another": lambda good, last: sealed(good + user(aggregate([last]))),
    "wrong checksum": lambda good, last: sealed(good + user(last))[:-1],
}
"""Small aggregates with an error in them. Arguments: the tables of keys with two good user records, and another record.
"""

LARGE = ("empties", "long key", "backlog", "huge")
KINDS = (*BROKEN, *LARGE)
SMALL = 0.004
"""Size of the large kinds where they come often, as a share of their full size."""


def puts(kind: str, following: Next, key: str, scale: float = SMALL) -> Iterator[Put]:
    """An aggregate of this kind; a large one has this share of its full size."""
    long_key = "K" * LARGEST_KEY
    match kind:
        case "empties":
            yield Put(empty(EMPTIES * scale, key), key)
        case "long key":
            yield Put(empty(LONG_KEYED * scale, long_key), key, hash_of(long_key))
        case "huge":
            yield from [Put(empty(HUGE * scale, key), key)] * HUGE_ONES
        case "backlog":
            holds = int(BACKLOG_BYTES / (LIGHT_BYTES + 6) * min(1.0, scale * 10))
            for _ in range(max(1, int(BACKLOG * scale))):
                yield Put(aggregate([light(following()) for _ in range(holds)], [key]), key)
        case _:
            good = b"".join([*_tables(key), user(light(following())), user(light(following()))])
            yield Put(BROKEN[kind](good, light(following())), key)


def _tables(key: str) -> list[bytes]:
    """One partition key and three explicit hash keys: two invalid ones, and the hash key of the partition key."""
    return [field(1, key.encode()), *(field(2, each) for each in (b"ff00", b"%d" % 2**128, hash_of(key).encode()))]


def empty(count: float, key: str) -> bytes:
    """An aggregate of this many user records without a payload."""
    return aggregate([b""] * int(count), [key])


def hash_of(key: str) -> str:
    """The hash key that Kinesis computes from a partition key."""
    return str(int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()))
