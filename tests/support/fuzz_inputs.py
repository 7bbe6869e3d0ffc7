"""Random input from producers and pipes, from seeds: the same seed gives the same batch."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import orjson

T = TypeVar("T")

BATCH = 500
TOTAL = 100_000
VARIABLE = "PENSTOCK_FUZZ_SEED"
LONG_BYTES = 1024 * 1024

FIELDS = ("s", "i", "f", "b", "t", "text", "", "\0", "ü", "\U0001f4a5", "__class__", "a" * 300)
TEXTS = (
    "",
    "\0",
    "a\0b",
    "ü\U0001f4a5",
    "NaN",
    "1e999",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-01-02T12:00:00Z",
    "2026-W01-1",
    "24:00",
    "{}",
    "${jndi:ldap://x}",
    "%s%n{0}",
    "'; drop table leases; --",
    "../../../etc/passwd",
)
NUMBERS = (0, -1, 0.5, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, -1e-308, 1e22, 253402300800000)
RAW_NUMBERS = (
    b"1e999",
    b"-1E-999",
    b"-0",
    b"-0.0e-0",
    b"9" * 25,
    b"9" * 5000,
    b"0.1" + b"0" * 5000,
    b"18446744073709551616",
)
RAW_TEXTS = (
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\xed\xa0\x80"',
    b'"\xff\xfe"',
    b'"\xe2\x82"',
    b'"\xf0\x9f\x92"',
    b'"\xc0\x80"',
    b'"\\u0000"',
    b'"\\x00"',
    b'"\x00"',
    b'"\x7f\\/"',
    b"'x'",
)
RAW = RAW_NUMBERS + RAW_TEXTS
PIECES = (*RAW, b"[", b"{", b'"', b"\\")
WHOLE = (
    b"",
    b" ",
    b"\0",
    b"null",
    b"true",
    b"-0",
    b"[]",
    b"{}",
    b'""',
    b"NaN",
    b"Infinity",
    b"\xef\xbb\xbf{}",
    b"{}\n",
    b"{} {}",
    b"{}\0",
    '{"s":1}'.encode("utf-16"),
    b'{"s":1,"s":"2","s":null}',
    b'{"s":1,}',
    b'{"s"}',
    b"{1:2}",
)


def seeds() -> Sequence[int]:
    """One seed for each batch of ``TOTAL``, or the one that is to be repeated."""
    wanted = os.environ.get(VARIABLE)
    return range(TOTAL // BATCH) if wanted is None else [int(wanted)]


@contextmanager
def repeatable(seed: int, test: str) -> Iterator[None]:
    """Adds the command that repeats a failure to its error."""
    try:
        yield
    except BaseException:
        print(f"\nseed {seed} failed; again: {VARIABLE}={seed} python -m pytest -n 0 {test}", file=sys.stderr)
        raise


class Dice(random.Random):
    """As ``random.Random``, with quicker ways to choose, which payloads need a million times."""

    def below(self, count: int) -> int:
        return int(self.random() * count)

    def choice(self, sequence: Sequence[T]) -> T:  # type: ignore[override]  # we choose from sequences alone
        return sequence[int(self.random() * len(sequence))]

    def text(self, most: int) -> str:
        """Up to ``most`` characters of any language."""
        return self.randbytes(2 * self.below(most + 1)).decode("utf-16-le", "ignore")


def payloads(seed: int) -> list[bytes]:
    """``BATCH`` payloads of every kind."""
    dice = Dice(seed)
    return [kind(dice) for kind in dice.choices(KINDS, WEIGHTS, k=BATCH)]


def mangled(dice: Dice, data: bytes) -> bytes:
    """The data with bits flipped, and bytes lost, doubled, inserted or cut off."""
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5))):
        place = dice.below(len(made) + 1)
        match dice.below(6):
            case 0 if place < len(made):
                made[place] ^= 1 << dice.below(8)
            case 1:
                del made[place:]
            case 2:
                del made[place : place + 1 + dice.below(8)]
            case 3:
                made[place:place] = dice.randbytes(1 + dice.below(8))
            case 4:
                made[place:place] = made[place : place + 1 + dice.below(39)]
            case _:
                made[place:place] = dice.choice(PIECES)
    return bytes(made)


# -- kinds of payloads


def _value(dice: Dice, depth: int = 0) -> object:
    match dice.below(8 if depth < 3 else 5):
        case 0:
            return dice.choice(TEXTS)
        case 1:
            return dice.choice(NUMBERS)
        case 2:
            return dice.choice((None, True, False))
        case 3:
            return dice.uniform(-1e12, 1e15)
        case 4:
            return dice.text(19)
        case 5:
            return [_value(dice, depth + 1) for _ in range(dice.below(4))]
        case _:
            return _object(dice, depth + 1)


def _object(dice: Dice, depth: int = 0) -> dict[str, object]:
    return {dice.choice(FIELDS): _value(dice, depth) for _ in range(dice.below(5))}


def _raw(dice: Dice) -> bytes:
    """An object with some values that encoders do not write."""
    fields = [b'"%s":%s' % (dice.choice((b"s", b"i", b"t")), dice.choice(RAW)) for _ in range(2)]
    return b"{%s}" % b",".join(fields)


def _deep(dice: Dice) -> bytes:
    depth = dice.choice((10, 200, 253, 254, 255, 300, 1000, 1023, 1024, 1025, 20_000))
    opening, closing = dice.choice(((b"[", b"]"), (b'{"s":', b"}"), (b'[{"s":', b"}]")))
    whole = opening * depth + b"1" + closing * dice.choice((depth, depth, depth - 1, 0))
    return dice.choice((b'{"s":%s}', b'{"i":%s}', b"%s")) % whole


def _long(dice: Dice) -> bytes:
    return b'{"s":"%s"}' % (dice.choice((b"x", b"\\u0000", b"\xc3\xbc", b"\xff")) * (LONG_BYTES // 8))


KINDS: tuple[Callable[[Dice], bytes], ...] = (
    lambda dice: orjson.dumps(_object(dice)),
    lambda dice: mangled(dice, orjson.dumps(_object(dice))),
    lambda dice: orjson.dumps(_value(dice)),
    lambda dice: dice.randbytes(dice.below(100)),
    lambda dice: dice.choice(WHOLE),
    _raw,
    _deep,
    _long,
)
WEIGHTS = (300, 300, 100, 100, 100, 95, 4, 1)
