"""Every type of column that can be stored."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import pyarrow as pa

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
UNITS = ("s", "ms", "us", "ns")

FLAT = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2), pa.date32(), pa.date64()),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), *(pa.duration(unit) for unit in UNITS)),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Europe/Berlin", "+02:00")),
    *(
        pa.decimal32(5, 2),
        pa.decimal64(12, 2),
        pa.decimal128(9, 2),
        pa.decimal128(38, 0),
        pa.decimal256(60, 5),
        pa.decimal128(5, -2),
    ),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64())),
]


def nests(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield from (pa.list_(kind), pa.large_list(kind), pa.list_(kind, 2), pa.list_view(kind))
    yield from (pa.struct([("a", kind)]), pa.struct([("a", kind), ("b", pa.float64())]))
    yield from (pa.map_(pa.string(), kind), *([] if kind.num_fields else [pa.map_(kind, pa.int64())]))


DEEP = [
    *(nest for kind in (pa.int64(), pa.float32(), pa.string(), pa.timestamp("us"), pa.bool_()) for nest in nests(kind)),
    *(
        nest
        for kind in (pa.list_(pa.int8()), pa.list_(pa.float64(), 2), pa.struct([("a", pa.int32())]))
        for nest in nests(kind)
    ),
    *(pa.list_(kind) for kind in FLAT),
]
