"""100,000 random payloads through decoding, carried fields, rows, and rows as JSON: each becomes a row or a fault."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
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
from tests.support.fuzz_inputs import payloads, repeatable, seeds

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


def test_json_objects_are_rows_and_the_rest_are_faults() -> None:
    for seed in seeds():
        with repeatable(seed, TEST):
            for payload, row in rows_of(Counting(), {}, payloads(seed)):
                item = parsed(payload)
                assert row == ({"fields": len(item)} if isinstance(item, dict) else None), payload[:200]


@pytest.mark.parametrize("passthrough", [{"s": "string"}, EVERY_TYPE])
def test_carried_fields_are_of_their_types_or_their_record_is_a_fault(passthrough: dict[str, str]) -> None:
    for seed in seeds():
        with repeatable(seed, TEST):
            for payload, row in rows_of(Counting(), passthrough, payloads(seed)):
                item = parsed(payload)
                assert row is None or row["fields"] == len(item), payload[:200]
                if isinstance(item, dict) and all(item.get(name) is None for name in passthrough):
                    assert row == {**dict.fromkeys(passthrough), "fields": len(item)}, payload[:200]
                if row is not None and isinstance(item.get("s"), str):
                    assert row["s"] == item["s"]


def test_a_model_that_decodes_by_itself_gets_every_payload() -> None:
    for seed in seeds():
        with repeatable(seed, TEST):
            for payload, row in rows_of(Sizing(), {"s": "string"}, payloads(seed)):
                unfit = row is None and parsed(payload)["s"] is not None
                assert unfit or (row is not None and row["fields"] == len(payload)), payload[:200]
