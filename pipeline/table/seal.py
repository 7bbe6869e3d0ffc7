"""A Parquet file that carries its own SHA-256, so that no byte of it can change unseen.

The digest lies in the footer and is that of the file with zeros in its place. Parquet's own checksums cover no footer.
"""

from __future__ import annotations

import hashlib
import re

SHA256 = "penstock.sha256"
"""In the footer alone."""

BLANK = "0" * 64
"""What is written there first."""

FOOTER_END = 8
"""Behind the footer: its length in four bytes, and four letters (Parquet format)."""

_PLACE = re.compile(re.escape(SHA256.encode()) + rb"\x18\x40([0-9a-f]{64})")
"""Name and value as Thrift's compact protocol writes them: the next field, a binary, 64 bytes long."""


def sealed(file: bytes) -> bytes:
    """The file with its digest where :data:`BLANK` is."""
    first, last = _place(file)
    return b"".join([memoryview(file)[:first], _digest(file, first, last), memoryview(file)[last:]])


def is_sealed(file: bytes) -> bool:
    """Whether it is, byte for byte, what :func:`sealed` returned."""
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
        raise ValueError("no place for a digest")
    return found[0].span(1)
