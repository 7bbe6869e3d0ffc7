"""The benchmark of the host measures what it says: whole recordings, each figure, equal work. How fast the host must be
is in tests/speed."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from benchmarks import aggregated, host, traffic
from benchmarks.fifo import Line
from benchmarks.host import Load
from benchmarks.memory_sink import Memory
from benchmarks.recorded_task import Host
from consumer.kcl.protocol import ProcessRecords, decode
from pipeline import kpl
from pipeline.record import Record


def test_a_status_is_not_late_while_the_window_is_closed() -> None:
    said = {"a": [(0.0, 5.0)], "b": [(0.0, 5.0)], "c": [(4.0, 5.0)]}
    closed = {"a": [1.0, 4.5], "c": [1.0]}
    assert list(host.lateness(said, closed)) == [0.5, 5.0, 1.0]


def test_every_record_of_a_recording_comes_through(tmp_path: Path) -> None:
    traffic.record(tmp_path, shards=2, messages=3, records=50)
    settled: list[Record] = []

    async def main() -> int:
        async with AsyncExitStack() as stack:
            one = Host()
            stack.push_async_callback(one.model.stop)
            await one.start()
            return (await one.consume(tmp_path, Memory(lambda run: settled.extend(run.records)))).records

    assert asyncio.run(main()) == 300
    assert len(set(settled)) == 300


def test_a_run_of_fifo_ends_when_every_record_is_predicted_and_the_next_one_knows_what_it_learned() -> None:
    texts = [(b'{"n": 1}', "key")] * 300

    async def main() -> None:
        line = Line("benchmarks.noop:Noop", learns=True)
        try:
            await line.start()
            learned = line.batch_sizes
            assert learned is not None
            for _ in range(2):
                assert await line.rate(texts) > 0
                assert line.costs == (len(texts), len(texts))
            assert line.batch_sizes is learned
            await line.forget()
            assert line.batch_sizes is not learned
        finally:
            await line.stop()

    asyncio.run(main())


def test_every_figure_of_the_throughput_is_measured() -> None:
    figures = asyncio.run(host.throughput(1, Load(shards=2, messages=3, records=50)))
    shown = {"host_records_per_s", "host_parquet_records_per_s", "kclpy_records_per_s", "transport_share"}
    assert figures.keys() == shown
    assert all(figure.value > 0 for figure in figures.values())


def test_a_recording_is_what_kcl_would_say(tmp_path: Path) -> None:
    assert traffic.record(tmp_path, shards=2, messages=3, records=4) == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shardId-000000000000", "shardId-000000000001"]
    messages = [decode(line, "s") for line in (tmp_path / "shardId-000000000001").read_bytes().splitlines()]
    records = [each for message in messages if isinstance(message, ProcessRecords) for each in message.records]
    assert [len(record.data) for record in records] == [traffic.DATA_BYTES] * 12
    assert all(one.position < other.position for one, other in pairwise(records))
    assert len({record.partition_key for record in records}) == 12


def test_aggregates_that_are_handed_over_whole_and_apart_have_the_same_records(tmp_path: Path) -> None:
    """The benchmark compares equal work."""
    found = []
    for how in (aggregated.WHOLE, aggregated.APART):
        (tmp_path / how).mkdir()
        aggregated.record(tmp_path / how, how)
        first = min((tmp_path / how).iterdir()).read_bytes().splitlines()[0]
        rows = orjson.loads(first)["records"]
        found.append([(row["sequenceNumber"], sub, key, data) for row in rows for sub, key, data in users_of(row)])
    assert found[0] == found[1]
    assert len(found[0]) == aggregated.AGGREGATES * aggregated.HOLDS


def users_of(row: dict[str, Any]) -> list[tuple[int, str | None, bytes]]:
    data = base64.b64decode(row["data"])
    if (message := kpl.message(data)) is None:
        return [(row["subSequenceNumber"], row["partitionKey"], data)]
    return [(sub, key, data) for sub, (data, key, _, _) in enumerate(message.users())]
