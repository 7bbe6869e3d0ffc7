"""Bytes from a replica are the right answer, or one error that ends the replica, and never an error in the host."""

from __future__ import annotations

import math
import os
import random
import resource
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from pipeline.model_process import frames
from pipeline.replicas.answers import AnswerReader, Rows
from tests.support.hosts import ROOT

ROUNDS = int(os.environ.get("PENSTOCK_FUZZ_ROUNDS", "4000"))

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("text", pa.string()),
        ("list", pa.list_(pa.float32())),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        pa.field("inner", pa.struct([pa.field("x", pa.int16(), nullable=False)])),
    ]
)
VALUES = [{"n": n, "text": "é" * n, "list": [n / 2] * n, "kind": "ab"[n % 2], "inner": {"x": n}} for n in range(6)]
FAULT = {"index": 1, "kind": "rejected", "reason": "why", "traceback": "", "where": ""}
HEAD = {"faults": [FAULT], "replica": 0, "seconds": 0.5, "strain": None}


def body(schema: pa.Schema = SCHEMA, values: list[Any] = VALUES, times: int = 1, codec: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as stream:
        for _ in range(times):
            stream.write_batch(pa.RecordBatch.from_pylist(values, schema))
    return bytes(sink.getvalue().to_pybytes())


def assembled(data: bytes) -> frames.Frame | None:
    assembler = frames.Assembler(body_limit=1 << 20)
    while data:
        space = assembler.space()
        piece = data[: len(space)]
        space[: len(piece)] = piece
        data = data[len(piece) :]
        if frame := assembler.wrote(len(piece)):
            return frame
    return None


def read(head: dict[str, Any] = HEAD, content: bytes | None = None, count: int = 7, schema: pa.Schema = SCHEMA) -> Any:
    frame = assembled(b"".join(frames.pack("rows", head, [body() if content is None else content])))
    assert frame is not None
    return AnswerReader(schema).read(frame, "predict", count)


def test_the_good_answer_is_read() -> None:
    answer = read()
    assert isinstance(answer, Rows) and answer.batch.to_pylist() == VALUES


@pytest.mark.parametrize(
    "change",
    [
        {"faults": [FAULT, FAULT]},
        {"faults": [{**FAULT, "index": 7}]},
        {"faults": [{**FAULT, "index": -1}]},
        {"faults": [{**FAULT, "index": True}]},
        {"faults": [{**FAULT, "kind": "whatever"}]},
        {"faults": [{**FAULT, "reason": "x" * 100_000}]},
        {"faults": []},
        {"faults": None},
        {"seconds": -1},
        {"seconds": math.inf},
        {"seconds": "1"},
        {"seconds": 1e300},
        {"replica": 1.5},
        {"replica": 2**40},
        {"strain": [0]},
    ],
    ids=str,
)
def test_a_head_that_says_what_cannot_be_is_garbage(change: dict[str, Any]) -> None:
    with pytest.raises(frames.Garbage):
        read({**HEAD, **change})


def test_rows_that_are_not_what_was_asked_are_garbage() -> None:
    for content in (
        body(pa.schema([("n", pa.int64())])),
        body(SCHEMA.set(0, pa.field("n", pa.int32()))),
        body(times=2),
        body(times=0),
        body(values=VALUES[1:]),
        body(codec="zstd"),
        body(codec="lz4"),
        body()[:-100],
        b"",
    ):
        with pytest.raises(frames.Garbage):
            read(content=content)


@pytest.mark.parametrize(("head", "rest"), [(2**32 - 1, 0), (64, 2**63), (64, 2**64 - 1), (0, 0)])
def test_huge_lengths_take_no_memory(head: int, rest: int) -> None:
    with pytest.raises(frames.Garbage):
        assembled(frames.LENGTHS.pack(head, rest) + b"x" * 100)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randrange(len(changed))
        changed[place : place + chance.choice((1, 1, 4, 8))] = chance.choice(
            (bytes([chance.randrange(256)]), b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff" * 8, chance.randbytes(8))
        )
        if chance.random() < 0.1:
            del changed[place : place + chance.randrange(1, 64)]
    return bytes(changed) or b"\0"


def fuzz(seed: int, rounds: int) -> None:
    """Mutate an answer, and read the result to its last value."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader, good = AnswerReader(SCHEMA), b"".join(frames.pack("rows", HEAD, [body()]))
    for number in range(rounds):
        try:
            frame = assembled(mutated(good, random.Random(f"{seed}-{number}")))
            answer = None if frame is None else reader.read(frame, "predict", 7)
        except frames.Garbage:
            continue
        if isinstance(answer, Rows):
            assert answer.batch.num_rows + len(answer.faults) == 7, number
            assert answer.batch.schema == SCHEMA
            for column in answer.batch.columns:
                str(column.to_numpy(zero_copy_only=False))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert peak_mib < 1024, peak_mib


def test_no_bytes_of_a_replica_hurt_the_host() -> None:
    """Run in a separate process, so that a crash is seen. Another seed: ``PENSTOCK_FUZZ_SEED``."""
    seed = int(os.environ.get("PENSTOCK_FUZZ_SEED", "0"))
    program = f"from tests.property.test_answer_fuzz import fuzz; fuzz({seed}, {ROUNDS})"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, f"seed {seed}: {done.returncode}\n{done.stderr.decode()[-3000:]}"
