"""What the host does with a stream of KPL aggregates and a model that does nothing; also compared with another commit.

    python -m benchmarks.aggregated [--json] [RUNS]
    python benchmarks/aggregated.py beside CHECKOUT RUNS

The first prints figures of this tree. The second takes turns with another checkout of Penstock, in processes that run
this file with that checkout's code: for aggregates, and for the records of :mod:`benchmarks.host`. A checkout from when
KCL took aggregates apart receives what KCL sent then: a line for each user record, with the aggregate's key and number.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from benchmarks.figures import Figure

SHARDS, MESSAGES, AGGREGATES = 8, 6, 10
AGGREGATE_BYTES, DATA_BYTES = 50_000, 200
"""Size of an aggregate (KPL's default) and of a user record's data, in bytes."""

HOLDS = AGGREGATE_BYTES // (DATA_BYTES + 10)
RECORDS = SHARDS * MESSAGES * AGGREGATES * HOLDS
KEYS = 50
PLAIN_MESSAGES = 15
"""A quarter of those of :mod:`benchmarks.host`: the cost of a record does not depend on their number."""

UNITS = {
    "rate": "records/s",
    "us": "µs of the host's process per record",
    "thread_us": "µs of the event loop's thread per record",
}
WHOLE, APART, PLAIN = "whole", "apart", "plain"
THIS = Path(__file__).resolve().parent.parent


def record(folder: Path, how: str) -> None:
    """Write a recording as :mod:`benchmarks.traffic` sends it. ``how``: aggregates as KCL delivers them, whole or
    apart.
    """
    from benchmarks import host, traffic

    if how == PLAIN:
        traffic.record(folder, shards=host.FULL.shards, messages=PLAIN_MESSAGES, records=host.FULL.records)
        return
    keys, users = _contents()
    for shard in range(SHARDS):
        sequence = traffic.FIRST_SEQUENCE + shard * 10**40
        with (folder / f"shardId-{shard:012}").open("wb") as file:
            for _ in range(MESSAGES):
                rows = [row for number in range(AGGREGATES) for row in _rows(sequence + number, keys, users, how)]
                sequence += AGGREGATES
                file.write(orjson.dumps({"action": "processRecords", "records": rows, "millisBehindLatest": 0}) + b"\n")


def _rows(sequence: int, keys: list[str], users: list[tuple[str, bytes]], how: str) -> list[dict[str, Any]]:
    """One Kinesis record, as MultiLang writes it."""
    from consumer.testing.fake_kcl import row

    if how == APART:
        return [row(sequence, data, sub, key) for sub, (key, data) in enumerate(users)]
    return [row(sequence, _sealed(keys, users), 0, keys[0])]


def _sealed(keys: list[str], users: list[tuple[str, bytes]]) -> bytes:
    from consumer.testing.aggregates import field, sealed, user

    message = [field(1, key.encode()) for key in keys] + [user(data, keys.index(key)) for key, data in users]
    return sealed(b"".join(message))


def one() -> bytes:
    """Return one aggregate; all of them are equal."""
    return _sealed(*_contents())


def _contents() -> tuple[list[str], list[tuple[str, bytes]]]:
    dice = random.Random(4)  # nothing is secret here
    keys = [f"{dice.getrandbits(128):032x}" for _ in range(KEYS)]
    return keys, [(dice.choice(keys), dice.randbytes(DATA_BYTES)) for _ in range(HOLDS)]


async def consumed(recording: Path, turns: Iterable[object], *, files: bool = False) -> AsyncIterator[dict[str, float]]:
    """After a run to warm up, yield the figures of :data:`UNITS` for each turn."""
    from benchmarks.host import Host, parquet  # type: ignore[attr-defined]  # other checkouts have Host there
    from benchmarks.memory_sink import Memory

    async with AsyncExitStack() as stack:
        host = Host()
        stack.push_async_callback(host.model.stop)
        await host.start()
        await host.consume(recording, Memory())
        for _ in turns:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            process_s, thread_s = time.process_time(), time.thread_time()
            one = await host.consume(recording, parquet(host.rows, folder) if files else Memory())
            process_s, thread_s = time.process_time() - process_s, time.thread_time() - thread_s
            each_us = 1e6 / one.records
            yield {"rate": one.rate, "us": process_s * each_us, "thread_us": thread_s * each_us}


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return the figures of this tree."""
    from benchmarks.figures import Figure

    async def all_of(recording: Path) -> list[dict[str, float]]:
        return [each async for each in consumed(recording, range(runs))]

    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), WHOLE)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        found = asyncio.run(all_of(Path(folder)))
    text = f"{SHARDS} shards, aggregates of {HOLDS} user records of {DATA_BYTES} bytes; a sink in memory"
    figures = [
        Figure("aggregated_records_per_s", [each["rate"] for each in found], "records/s", text=text),
        Figure(
            "aggregated_host_us", [each["us"] for each in found], "µs", text="of the host's process, per user record"
        ),
        Figure("aggregated_line_bytes", [size / RECORDS], "bytes", text="of KCL's lines, per user record"),
    ]
    return {figure.key: figure for figure in figures}


def beside(checkout: Path, runs: int) -> None:
    """Print medians of this tree and of the other one, and the ratio of runs that took turns. build/beside.json has
    all values.
    """
    from tests.chaos.report import circumstances

    commit = ["git", "rev-parse", "--short", "HEAD"]
    other = subprocess.run(commit, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()
    result: dict[str, Any] = {**circumstances(), "beside": other, "turns": []}
    with tempfile.TemporaryDirectory() as folder:
        for how in (WHOLE, APART, PLAIN):
            (Path(folder) / how).mkdir()
            record(Path(folder) / how, how)
        for what, (ours, theirs) in {"records": (PLAIN, PLAIN), "aggregates": (WHOLE, APART)}.items():
            for sink in ("memory", "parquet"):
                with (
                    _side(THIS, Path(folder) / ours, sink) as left,
                    _side(checkout, Path(folder) / theirs, sink) as right,
                ):
                    turns = [(_turn(left), _turn(right)) for _ in range(runs)]
                for key, unit in UNITS.items():
                    ours_and_theirs = [[each[key] for each in side] for side in zip(*turns, strict=True)]
                    result["turns"].append(_told(f"{what}, {sink}", unit, *ours_and_theirs))
    (THIS / "build").mkdir(exist_ok=True)
    (THIS / "build" / "beside.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")


@contextmanager
def _side(checkout: Path, recording: Path, sink: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a checkout that consumes the recording once for every line written to it."""
    process = subprocess.Popen(
        [sys.executable, __file__, "consume", str(recording), sink],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        yield process
        process.communicate()


def _turn(process: subprocess.Popen[bytes]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    found: dict[str, float] = orjson.loads(process.stdout.readline())
    return found


async def _turns(recording: Path, sink: str) -> None:
    async for each in consumed(recording, sys.stdin, files=sink == "parquet"):
        sys.stdout.buffer.write(orjson.dumps(each) + b"\n")
        sys.stdout.buffer.flush()


def _told(what: str, unit: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
    spread = f"{min(ours):,.4g} to {max(ours):,.4g} / {min(theirs):,.4g} to {max(theirs):,.4g}"
    sys.stdout.write(f"{what}: {median(ours):,.4g} / {median(theirs):,.4g} {unit} = {ratio:.3f}  ({spread})\n")
    sys.stdout.flush()
    return {"what": what, "unit": unit, "ours": ours, "theirs": theirs, "ratio": ratio}


def main(arguments: list[str]) -> None:
    """Run one of the two commands above, or ``consume``, the process of one side."""
    match arguments:
        case ["beside", checkout, runs]:
            beside(Path(checkout).resolve(), int(runs))
        case ["consume", recording, sink]:
            asyncio.run(_turns(Path(recording), sink))
        case _:
            from benchmarks.alone import run

            run(measure)


if __name__ == "__main__":
    main(sys.argv[1:])
