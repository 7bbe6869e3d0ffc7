"""A Parquet file that carries its own SHA-256, so that a change of any byte is detected.

The footer holds the digest of the file with zeros in the digest's place. Parquet's own checksums do not cover the
footer.
"""

from __future__ import annotations

import hashlib
import re

SHA256 = "penstock.sha256"
"""Name of the digest in the footer; it is not on the object."""

BLANK = "0" * 64
"""Value to write for :data:`SHA256` before :func:`sealed` fills in the digest."""

FOOTER_END = 8
"""Bytes after the footer: its length in four bytes, and four letters (Parquet format)."""

_PLACE = re.compile(re.escape(SHA256.encode()) + rb"\x18\x40([0-9a-f]{64})")
"""Name and value in Thrift's compact protocol: the next field, a binary, 64 bytes long."""


def sealed(file: bytes) -> bytes:
    """Return the file with its digest in place of :data:`BLANK`.

    :raises ValueError: the footer does not have exactly one place for it.
    """
    first, last = _place(file)
    return b"".join([memoryview(file)[:first], _digest(file, first, last), memoryview(file)[last:]])


def is_sealed(file: bytes) -> bool:
    """Return whether the file is, byte for byte, what :func:`sealed` returned. Never raises."""
    try:
        first, last = _place(file)
    except ValueError:
        return False
    return file[first:last] == _digest(file, first, last)


def _digest(file: bytes, first: int, last: int) -> bytes:
    digest = hashlib.sha256(memoryview(file)[:first])
    digest.update(BLANK.encode())
    digest.update(memoryview(file)[last:])
    return digest.hexdigest().encode()


def _place(file: bytes) -> tuple[int, int]:
    length = int.from_bytes(file[-FOOTER_END:-4], "little")
    begins = max(0, len(file) - FOOTER_END - length)
    found = list(_PLACE.finditer(file, begins))
    if len(found) != 1:
        raise ValueError("the footer has no place for a digest")
    return found[0].span(1)
