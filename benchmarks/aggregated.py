"""What the host does with a stream of KPL aggregates and a model that does nothing, also beside another commit.

    python -m benchmarks.aggregated [--json] [RUNS]
    python benchmarks/aggregated.py beside CHECKOUT RUNS

The first has figures of this tree. The second takes turns with another checkout of Penstock, in processes that run this
file with its code: for aggregates, and for the records of :mod:`benchmarks.host`. A checkout from when KCL took
aggregates apart is told what KCL said then: a line for each user record, with the aggregate's key and number.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import orjson

SHARDS, MESSAGES, AGGREGATES = 8, 12, 10
AGGREGATE_BYTES, DATA_BYTES = 50_000, 200
"""As KPL makes them by default."""

HOLDS = AGGREGATE_BYTES // (DATA_BYTES + 10)
RECORDS = SHARDS * MESSAGES * AGGREGATES * HOLDS
KEYS = 50
UNITS = {"rate": "records/s", "us": "µs of the host's thread per record"}
WHOLE, APART, PLAIN = "whole", "apart", "plain"
THIS = Path(__file__).resolve().parent.parent


def record(folder: Path, how: str) -> None:
    """Write a recording as :mod:`benchmarks.traffic` speaks it; aggregates as KCL hands them over, whole or apart."""
    from benchmarks import host, traffic

    if how == PLAIN:
        load = host.FULL
        traffic.record(folder, shards=load.shards, messages=load.messages, records=load.records)
        return
    dice = random.Random(4)  # nothing is secret here
    keys = [f"{dice.getrandbits(128):032x}" for _ in range(KEYS)]
    users = [(dice.choice(keys), dice.randbytes(DATA_BYTES)) for _ in range(HOLDS)]
    for shard in range(SHARDS):
        sequence = traffic.FIRST_SEQUENCE + shard * 10**40
        with (folder / f"shardId-{shard:012}").open("wb") as file:
            for _ in range(MESSAGES):
                rows = [row for number in range(AGGREGATES) for row in _rows(sequence + number, keys, users, how)]
                sequence += AGGREGATES
                file.write(orjson.dumps({"action": "processRecords", "records": rows, "millisBehindLatest": 0}) + b"\n")


def _rows(sequence: int, keys: list[str], users: list[tuple[str, bytes]], how: str) -> list[dict[str, Any]]:
    """One Kinesis record, as MultiLang writes it."""
    from consumer.testing.aggregates import field, sealed, user
    from consumer.testing.kcl import row

    if how == APART:
        return [row(sequence, data, sub, key) for sub, (key, data) in enumerate(users)]
    message = [field(1, key.encode()) for key in keys] + [user(data, keys.index(key)) for key, data in users]
    return [row(sequence, sealed(b"".join(message)), 0, keys[0])]


async def consumed(recording: Path, runs: int, *, files: bool = False) -> list[dict[str, float]]:
    """Per run: records per second, and what the event loop's thread took for each, in µs."""
    from benchmarks.host import Host, parquet
    from benchmarks.memory_sink import Memory

    found = []
    async with AsyncExitStack() as stack:
        host = Host()
        stack.push_async_callback(host.model.stop)
        await host.start()
        await host.consume(recording, Memory())
        for _ in range(runs):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            busy_s = time.thread_time()
            one = await host.consume(recording, parquet(host.rows, folder) if files else Memory())
            found.append({"rate": one.rate, "us": 1e6 * (time.thread_time() - busy_s) / one.records})
    return found


def measure(runs: int = 5) -> dict[str, Any]:
    """Figures of this tree."""
    from benchmarks.figures import Figure

    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), WHOLE)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        found = asyncio.run(consumed(Path(folder), runs))
    text = f"{SHARDS} shards, aggregates of {HOLDS} user records of {DATA_BYTES} bytes; a sink in memory"
    figures = [
        Figure("aggregated_records_per_s", [each["rate"] for each in found], "records/s", text=text),
        Figure("aggregated_host_us", [each["us"] for each in found], "µs", text="the host's thread, per user record"),
        Figure("aggregated_line_bytes", [size / RECORDS], "bytes", text="of KCL's lines, per user record"),
    ]
    return {figure.key: figure for figure in figures}


def beside(checkout: Path, runs: int) -> None:
    """Print medians of this tree and of the other, and the ratio of runs that took turns."""
    with tempfile.TemporaryDirectory() as folder:
        for how in (WHOLE, APART, PLAIN):
            (Path(folder) / how).mkdir()
            record(Path(folder) / how, how)
        _tell("line bytes per user record", [_bytes(Path(folder) / WHOLE)], [_bytes(Path(folder) / APART)])
        cases = {"aggregates": (WHOLE, APART), "records": (PLAIN, PLAIN)}
        for what, (ours, theirs) in cases.items():
            for sink in ("memory", "parquet"):
                turns = [
                    (_run(THIS, Path(folder) / ours, sink), _run(checkout, Path(folder) / theirs, sink))
                    for _ in range(runs)
                ]
                for key, unit in UNITS.items():
                    left, right = ([each[key] for each in side] for side in zip(*turns, strict=True))
                    _tell(f"{what}, {sink}: {unit}", left, right)


def _bytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / RECORDS


def _run(checkout: Path, recording: Path, sink: str) -> dict[str, float]:
    """One run of a checkout, after one that warms it up."""
    command = [sys.executable, __file__, "consume", str(recording), sink]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"in {checkout}: {done.stderr[-2000:]}")
    found: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return found


def _tell(what: str, ours: list[float], theirs: list[float]) -> None:
    ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
    spread = f"{min(ours):,.4g} to {max(ours):,.4g} / {min(theirs):,.4g} to {max(theirs):,.4g}"
    sys.stdout.write(f"{what}: {median(ours):,.4g} / {median(theirs):,.4g} = {ratio:.3f}  ({spread})\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    match arguments:
        case ["beside", checkout, runs]:
            beside(Path(checkout).resolve(), int(runs))
        case ["consume", recording, sink]:
            [found] = asyncio.run(consumed(Path(recording), 1, files=sink == "parquet"))
            sys.stdout.buffer.write(orjson.dumps(found) + b"\n")
        case _:
            from benchmarks.alone import run

            run(measure)


if __name__ == "__main__":
    main(sys.argv[1:])
