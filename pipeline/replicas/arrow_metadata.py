"""Reads what pyarrow does not report about an Arrow message: whether it is compressed.

The metadata of a message is a flatbuffer: https://flatbuffers.dev/internals, and ``Message.fbs`` of Arrow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator


def is_compressed(metadata: bytes) -> bool:
    """Whether a message's buffers are compressed: a few bytes could then expand to any amount of memory.

    Arrow's reader has verified the metadata. The values of a dictionary's batch are a table inside its table.
    """
    message = struct.unpack_from("<I", metadata)[0]
    kind = next(_field(metadata, message, 1, "<B"), 0)
    for header in _table(metadata, message, 2):
        for batch in _table(metadata, header, 1) if kind == 2 else (header,):
            return any(True for _ in _table(metadata, batch, 3))
    return False


def _field(data: bytes, table: int, number: int, form: str) -> Iterator[int]:
    """Yield where a field of a table is, if it is there."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, entries)[0]
    place = 4 + 2 * number
    if place + 2 <= size and (offset := struct.unpack_from("<H", data, entries + place)[0]):
        yield struct.unpack_from(form, data, table + offset)[0]


def _table(data: bytes, table: int, number: int) -> Iterator[int]:
    """Yield where the table of a field begins, if it is there."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, entries)[0]
    place = 4 + 2 * number
    if place + 2 <= size and (offset := struct.unpack_from("<H", data, entries + place)[0]):
        yield table + offset + struct.unpack_from("<I", data, table + offset)[0]
