"""KPL's aggregation format: several user records in one Kinesis record. Pure.

An aggregate is ``MAGIC``, a protobuf message and the MD5 of that message. The message has a table of partition keys
(field 1), a table of explicit hash keys (2) and the user records (3). Each user record has the index of its partition
key (1), the index of its explicit hash key (2, optional), its data (3) and tags (4). A record that starts with the
magic but does not end with the right MD5 is a plain record; KCL treats it so as well.

Nothing is copied before it is needed, and at most one user record at a time. An aggregate has no limit of its own: 10
MiB may hold two million empty user records. Therefore the format is parsed by hand: protobuf's own classes would make
an object of every user record and copy every payload before the first can be used. The tests compare this parser with
protobuf's.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.hash_keys import HashRange, bounded, hash_key, hash_of

MAGIC = b"\xf3\x89\x9a\xc2"
MD5_BYTES = 16
KEYS_KEPT = 4096
"""How many keys of one aggregate are kept as text at a time."""

KEY_BYTES = 64
"""Memory of a key besides its characters, in bytes."""

GROUPS = 100
"""How deep groups of unknown fields may be nested, as in protobuf's own parsers."""

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
KEY_TAG, HASH_TAG, RECORD_TAG = 1 << 3 | LENGTH, 2 << 3 | LENGTH, 3 << 3 | LENGTH
KEY_INDEX_TAG, HASH_INDEX_TAG, DATA_TAG = 1 << 3 | VARINT, 2 << 3 | VARINT, 3 << 3 | LENGTH


class Malformed(ValueError):
    """The record has an aggregate's magic and checksum but cannot be parsed. The text says why."""


class User(NamedTuple):
    """A user record. A non-empty ``fault`` says why it cannot be delivered; ``data`` is then what could be read.

    ``partition_key``: for a key that is too long, its replacement (:func:`pipeline.hash_keys.bounded`). ``key_bytes``:
    memory that the key adds; 0 if an earlier record has the same key object.
    """

    data: bytes
    partition_key: str | None
    key_bytes: int = 0
    fault: str = ""


class AggregateMessage:
    """An aggregate, scanned once: ``count`` user records, and where the keys are. ``data`` is not copied."""

    __slots__ = ("_explicit", "_hashes", "_keys", "_known", "_names", "_stop", "count", "data", "misplaced", "within")

    def __init__(self, data: bytes) -> None:
        """:raises Malformed: the message is broken, or has no user record."""
        self.data = data
        self._stop = len(data) - MD5_BYTES
        self._keys, self._hashes = array("I"), array("I")
        self._names: dict[int, str] = {}
        self._known: dict[int, str] = {}
        self._explicit: dict[int, str] = {}
        self.within: HashRange | None = None
        """The hash keys of the shard that it came from, if known."""
        self.misplaced = False
        """Whether a returned user record belongs to another shard."""
        self.count = self._survey()
        if not self.count:
            raise Malformed("it has no user records")

    @property
    def weight(self) -> int:
        """Bytes that it uses in memory."""
        return len(self.data) + self._keys.itemsize * (len(self._keys) + len(self._hashes))

    def _survey(self) -> int:
        """Count the user records and find the keys, which protobuf allows to come after them."""
        data, stop, at, count = self.data, self._stop, len(MAGIC), 0
        keys, hashes = self._keys, self._hashes
        while at < stop:
            tag = data[at]
            if tag not in (RECORD_TAG, KEY_TAG, HASH_TAG):
                tag, at = _tag(data, at)
                if tag not in (RECORD_TAG, KEY_TAG, HASH_TAG):
                    at = _skipped(data, at, tag, stop)
                    continue
            else:
                at += 1
            if tag == RECORD_TAG:
                count += 1
            elif tag == KEY_TAG:
                keys.append(at)
            else:
                hashes.append(at)
            length = data[at]
            at += 1
            if length > 127:
                if (high := data[at]) < 128:
                    length += (high << 7) - 128
                    at += 1
                else:
                    length, at = _varint(data, at - 1)
            at += length
        if at != stop:
            raise Malformed("it is cut off")
        return count

    def users(self, skip: int = 0) -> Iterator[tuple[bytes, str | None, int, str]]:  # noqa: C901  # hot: no call per record
        """Yield the user records after the first ``skip``, one at a time, as the fields of :class:`User`."""
        data, stop, at, known, keys = self.data, self._stop, len(MAGIC), self._known, len(self._keys)
        while at < stop:
            tag = data[at]
            at += 1
            if tag != RECORD_TAG:
                tag, at = _tag(data, at - 1)
                if tag != RECORD_TAG:
                    at = _skipped(data, at, tag, stop)
                    continue
            length = data[at]
            at += 1
            if length > 127:
                if (high := data[at]) < 128:
                    length += (high << 7) - 128
                    at += 1
                else:
                    length, at = _varint(data, at - 1)
            begin, at = at, at + length
            if skip:
                skip -= 1
                continue
            if data[begin] == KEY_INDEX_TAG:  # a key index, then the data: KPL writes most records like this
                index, start = data[begin + 1], begin + 2
                if index > 127 and (high := data[start]) < 128:
                    index += (high << 7) - 128
                    start += 1
                if data[start] == DATA_TAG:
                    size = data[start + 1]
                    start += 2
                    if size > 127 and (high := data[start]) < 128:
                        size += (high << 7) - 128
                        start += 1
                    if start + size == at and data[start - 1] < 128:
                        if index in known:
                            yield data[start:at], known[index], 0, ""
                            continue
                        if index < keys:
                            key, key_bytes = self._key(index)
                            self._know(index, key)
                            yield data[start:at], key, key_bytes, ""
                            continue
            yield self._user(begin, at)

    # -- unusual records, and the first use of each key

    def _user(self, at: int, stop: int) -> User:
        begin = at
        try:
            index, explicit, start, end = self._inside(at, stop)
        except Malformed as error:
            return User(self.data[begin:stop], None, 0, f"a user record of an aggregate cannot be read: {error}")
        data = self.data[start:end]
        if index >= len(self._keys):
            return User(data, None, 0, f"it names partition key {index} of an aggregate that has {len(self._keys)}")
        key, key_bytes = self._key(index)
        if explicit is None:
            if index not in self._known:
                self._know(index, key)
            return User(data, key, key_bytes)
        return User(data, key, key_bytes, self._hash_fault(explicit))

    def _inside(self, at: int, stop: int) -> tuple[int, int | None, int, int]:
        """Return the indices of the two keys, and where the data is. If a field occurs twice, the last one counts."""
        data = self.data
        index, explicit, start, end = -1, None, -1, -1
        while at < stop:
            tag, at = _tag(data, at)
            if tag == KEY_INDEX_TAG:
                index, at = _varint(data, at)
            elif tag == HASH_INDEX_TAG:
                explicit, at = _varint(data, at)
            elif tag == DATA_TAG:
                size, start = _varint(data, at)
                at = end = start + size
            else:
                at = _skipped(data, at, tag, stop)
        if at != stop:
            raise Malformed("it is cut off")
        if index < 0 or start < 0:
            raise Malformed(f"it has no {'partition key' if index < 0 else 'data'}")
        return index, explicit, start, end

    def _key(self, index: int) -> tuple[str, int]:
        """Return the text of a key, and the memory that it adds: 0 if it is kept already."""
        if (name := self._names.get(index)) is not None:
            return name, 0
        if len(self._names) >= KEYS_KEPT:
            self._names.clear()
            self._known.clear()
        name = self._names[index] = bounded(self._text(self._keys[index]))
        return name, len(name) + KEY_BYTES

    def _know(self, index: int, key: str) -> None:
        """Keep the key, so that it is not decoded again."""
        self._known[index] = key
        if self.within is not None and not self.misplaced:
            self._place(hash_of(self._text(self._keys[index])))

    def _hash_fault(self, index: int) -> str:
        """Why an explicit hash key is invalid; empty if it is valid."""
        if (fault := self._explicit.get(index)) is not None:
            return fault
        if index >= len(self._hashes):
            return f"it names explicit hash key {index} of an aggregate that has {len(self._hashes)}"
        if len(self._explicit) >= KEYS_KEPT:
            self._explicit.clear()
        number = hash_key(self._text(self._hashes[index]))
        self._explicit[index] = (
            "" if number is not None else "its explicit hash key is not a decimal number in [0, 2^128)"
        )
        if number is not None:
            self._place(number)
        return self._explicit[index]

    def _place(self, hash_key: int) -> None:
        if self.within is not None and not self.within.first <= hash_key <= self.within.last:
            self.misplaced = True

    def _text(self, at: int) -> str:
        """Decode as Java does: invalid UTF-8 becomes U+FFFD."""
        size, start = _varint(self.data, at)
        return self.data[start : start + size].decode("utf-8", "replace")


def message(data: bytes) -> AggregateMessage | None:
    """Return the aggregate that a Kinesis record is; None if it is a plain record.

    :raises Malformed: it has an aggregate's checksum but cannot be parsed.
    """
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC) + MD5_BYTES:
        return None
    body = memoryview(data)[len(MAGIC) : -MD5_BYTES]
    if hashlib.md5(body, usedforsecurity=False).digest() != data[-MD5_BYTES:]:
        return None
    return AggregateMessage(data)


# -- protobuf's wire format. A message is followed by the 16 bytes of its MD5, so a number of at most 10 bytes that
# starts inside the message can be read without checking for the end.


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise Malformed("a number in it has more than 10 bytes")


def _tag(data: bytes, at: int) -> tuple[int, int]:
    tag, at = _varint(data, at)
    if not 8 <= tag < 1 << 32:
        raise Malformed("it has a field without a number")
    return tag, at


def _skipped(data: bytes, at: int, tag: int, stop: int) -> int:
    """Return where an unknown field ends."""
    open_groups: list[int] = []
    while True:
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            _, at = _varint(data, at)
        elif wire == LENGTH:
            size, at = _varint(data, at)
            at += size
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        elif wire == GROUP and len(open_groups) < GROUPS:
            open_groups.append(number)
        elif wire == END_GROUP and open_groups and open_groups[-1] == number:
            open_groups.pop()
        else:
            raise Malformed(f"field {number} has an unknown type")
        if not open_groups:
            return at
        if at >= stop:
            raise Malformed("it is cut off")
        tag, at = _tag(data, at)
