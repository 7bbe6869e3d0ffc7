"""Bounds the memory that Penstock's columns of a file would take, before any page is decompressed.

A page's header says how large the page is uncompressed, how many values it has, and how they are encoded (Parquet
format, ``PageHeader``, in Thrift's compact protocol). Readers allocate what the header says, so a file of a few
kilobytes can cost gigabytes. Penstock's own pages never claim that much: values of its columns are short, and each is
written once or as an index into a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

MOST_VALUE = 1_100
"""The most bytes of one value in Penstock's columns, with its length prefix: a partition key has 256 characters of 4
bytes at most.
"""

PAGE_SLACK = 1_024
"""Bytes of a page that are not values: levels, bit widths."""

MOST_ROWS = 8_000_000
"""The most rows of a file: 1 GiB of rows (:mod:`pipeline.sinks.writable`), with more than 140 bytes each in Penstock's
columns.
"""

DATA, INDEX, DICTIONARY, DATA_V2 = range(4)
PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8
CODINGS = (PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY)
"""Accepted encodings of values: decoded values are as long as the uncompressed page, or lie in a dictionary."""

_INNER = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}
"""Field of a page's header that describes a page of this kind."""

_BOOL, _WHOLE, _SKIPPED, _LISTS = frozenset({1, 2}), frozenset({4, 5, 6}), frozenset({7, 8}), frozenset({9, 10})
"""Types of the compact protocol; 3 is a byte, 12 a struct."""

MOST_FIELDS, MOST_DEPTH = 1_000, 8
"""A header with more fields, or nested deeper, is refused."""


def check(body: bytes, metadata: pq.FileMetaData, columns: int) -> None:
    """Check row groups that have rows. The caller must not read from the others.

    :raises ValueError: the file's first ``columns`` columns claim more memory than Penstock's columns ever need.
    """
    if metadata.num_rows > MOST_ROWS:
        raise ValueError(f"it claims {metadata.num_rows:,} rows")
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        for column in range(columns if group.num_rows else 0):
            _check_chunk(body, group.column(column), group.num_rows)


def _check_chunk(body: bytes, chunk: pq.ColumnChunkMetaData, rows: int) -> None:
    if chunk.num_values != rows:
        raise ValueError(f"{chunk.path_in_schema} claims {chunk.num_values:,} values in {rows:,} rows")
    values = held = 0
    for kind, size, count, coding in _pages(body, chunk):
        if not 0 <= count <= rows or not 0 <= size <= MOST_VALUE * count + PAGE_SLACK or coding not in CODINGS:
            raise ValueError(f"{chunk.path_in_schema} claims a page of {size:,} bytes for {count:,} values")
        held += size
        values += count if kind in {DATA, DATA_V2} else 0
    if values != rows or held > 2 * (MOST_VALUE * rows + PAGE_SLACK):
        raise ValueError(f"{chunk.path_in_schema} claims {held:,} bytes for {values:,} values in {rows:,} rows")


def _pages(body: bytes, chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, uncompressed size, number of values and encoding of each page."""
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        at = min(at, chunk.dictionary_page_offset)
    stop = at + chunk.total_compressed_size
    if not 0 < at <= stop <= len(body):
        raise ValueError(f"{chunk.path_in_schema} lies outside the file")
    chunk_bytes = memoryview(body)[at:stop]
    at = 0
    while at < len(chunk_bytes):
        header = _Thrift(chunk_bytes, at)
        said = header.struct()
        kind: int = said.get(1, -1)
        inner = said.get(_INNER.get(kind, 0))
        if not isinstance(inner, dict) or not isinstance(said.get(3), int) or said[3] < 0:
            raise ValueError(f"{chunk.path_in_schema} has a malformed page header")
        coding = inner.get(4 if kind == DATA_V2 else 2)
        yield kind, int(said.get(2, -1)), int(inner.get(1, -1)), int(-1 if coding is None else coding)
        at = header.at + said[3]


class _Thrift:
    """Parses one struct of Thrift's compact protocol, from ``at`` on. Texts are skipped."""

    def __init__(self, body: memoryview, at: int) -> None:
        self.at = at
        self._body = body
        self._left = MOST_FIELDS

    def struct(self) -> dict[int, Any]:
        try:
            return self._struct(0)
        except IndexError:
            raise ValueError("a page's header is cut off") from None

    def _struct(self, depth: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        body = self._body
        while head := body[self.at]:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self._number()
            found[number] = self._value(head & 15, depth)
        self.at += 1
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= 1
        if depth > MOST_DEPTH or self._left < 0:
            raise ValueError("a page's header is malformed")
        if kind in _WHOLE:
            return self._number()
        if kind == 12:
            return self._struct(depth + 1)
        if kind in _BOOL:
            return kind == 1
        if kind in _SKIPPED:
            size = 8 if kind == 7 else self._varint()
            self.at += size
            return None
        if kind == 3:
            self.at += 1
            return self._body[self.at - 1]
        if kind in _LISTS:
            return self._list(depth)
        raise ValueError("a page's header is malformed")

    def _list(self, depth: int) -> None:
        head = self._body[self.at]
        self.at += 1
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(min(count, MOST_FIELDS + 1)):
            self._value(head & 15, depth + 1)

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._body[self.at]
            self.at += 1
            if byte < 128:
                return value | byte << shift
            value |= (byte & 127) << shift
            shift += 7
        raise ValueError("a page's header is malformed")
