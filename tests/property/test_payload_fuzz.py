"""100,000 random payloads through decoding, carried fields, rows, and rows as JSON: each becomes a row or a fault."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pytest

from pipeline.model import Model
from pipeline.model.arrow_rows import RowMaker
from pipeline.model.loader import UserModel
from pipeline.model_process import frames
from pipeline.model_process.worker import Predicting
from pipeline.sinks.json_rows import encode
from tests.support.fuzz_inputs import BATCH, payloads, repeatable, seeds

TEST = "tests/property/test_payload_fuzz.py"
EVERY_TYPE = {"s": "string", "i": "int64", "f": "float64", "b": "bool", "t": "timestamp"}


class Counting(Model):
    """Returns the number of fields of an item."""

    output_schema = pa.schema([("fields", pa.int64())])

    def predict(self, items: Sequence[Any]) -> list[Mapping[str, Any]]:
        return [{"fields": len(item)} for item in items]


class Sizing(Counting):
    """Returns payloads unchanged."""

    def decode(self, data: bytes) -> bytes:
        return data


def answered(work: Predicting, sent: Sequence[bytes]) -> tuple[pa.RecordBatch, dict[int, dict[str, str]]]:
    """Through the frames, as the host sees it."""
    frame = over_the_wire(work.answer(over_the_wire(frames.pack_payloads("predict", sent))))
    assert frame.op == "rows"
    faults = {fault.pop("index"): fault for fault in frame.head["faults"]}
    return pa.ipc.open_stream(pa.py_buffer(frame.body)).read_next_batch(), faults


def over_the_wire(chunks: Sequence[bytes]) -> frames.Frame:
    data, assembler = memoryview(b"".join(chunks)), frames.Assembler()
    while data:
        space = assembler.space()
        size = min(len(space), len(data))
        space[:size] = data[:size]
        data = data[size:]
        if frame := assembler.wrote(size):
            assert not data
            return frame
    raise AssertionError(struct.unpack("<IQ", chunks[0][:12]))


@lru_cache(maxsize=2 * BATCH)
def parsed(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None


def rows_of(
    model: Model, passthrough: Mapping[str, str], sent: Sequence[bytes]
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Every payload with its row, or with None; no row is left over."""
    work = Predicting(UserModel("fuzzed", model), RowMaker(model.output_schema, passthrough))
    batch, faults = answered(work, sent)
    assert len(batch) + len(faults) == len(sent)
    assert all(fault["kind"] == "decode" and 0 < len(fault["reason"]) < 1100 for fault in faults.values()), faults
    assert len(encode(pa.Table.from_batches([batch]))) == len(batch)
    rows = iter(batch.to_pylist())
    yield from ((payload, None if index in faults else next(rows)) for index, payload in enumerate(sent))
    assert next(rows, None) is None


def expect_rows_of_objects(sent: Sequence[bytes]) -> None:
    """A JSON object is a row, and everything else is a fault."""
    for payload, row in rows_of(Counting(), {}, sent):
        item = parsed(payload)
        assert row == ({"fields": len(item)} if isinstance(item, dict) else None), payload[:200]


def expect_carried_fields(passthrough: dict[str, str], sent: Sequence[bytes]) -> None:
    """Carried fields are of their types, or their record is a fault."""
    for payload, row in rows_of(Counting(), passthrough, sent):
        item = parsed(payload)
        assert row is None or row["fields"] == len(item), payload[:200]
        if isinstance(item, dict) and all(item.get(name) is None for name in passthrough):
            assert row == {**dict.fromkeys(passthrough), "fields": len(item)}, payload[:200]
        if row is not None and isinstance(item.get("s"), str):
            assert row["s"] == item["s"]


def expect_every_payload(sent: Sequence[bytes]) -> None:
    """A model that decodes payloads itself gets every payload."""
    for payload, row in rows_of(Sizing(), {"s": "string"}, sent):
        unfit = row is None and parsed(payload)["s"] is not None
        assert unfit or (row is not None and row["fields"] == len(payload)), payload[:200]


@pytest.mark.parametrize("half", range(2))
def test_every_payload_is_a_row_or_a_fault(half: int) -> None:
    """Making the payloads costs as much as using them, so all models get the same ones."""
    for seed in seeds()[half::2]:
        with repeatable(seed, TEST):
            sent = payloads(seed)
            expect_rows_of_objects(sent)
            expect_carried_fields({"s": "string"}, sent)
            expect_carried_fields(EVERY_TYPE, sent)
            expect_every_payload(sent)
