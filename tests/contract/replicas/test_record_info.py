"""The records that a model receives, and when it is closed: with real replicas and with fakes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.model_process.assignment import Assignment
from pipeline.record import Dead, Record
from pipeline.replicas.host import ModelHost
from pipeline.replicas.process import CLOSE_S, ReplicaProcess
from pipeline.testing import FakeReplica
from tests.support.hosts import record, settings, value

SHARD = "shardId-000000000007"
AT_MS = 1_795_000_000_123
LINKS = [pytest.param(ReplicaProcess, id="process"), pytest.param(FakeReplica, id="fake")]

Maker = Callable[[Assignment], ReplicaProcess]


def told(n: int, key: str | None = "key", sub: int = 0, **payload: Any) -> Record:
    plain = record(n, **payload)
    return Record(SHARD, plain.data, key, plain.sequence, sub, AT_MS + n)


def lived(link: Maker, records: list[Record], model: str = "Curious", **options: Any) -> None:
    async def main() -> None:
        host = ModelHost(settings(model, options=options, stream="events"), link=link)
        try:
            async with asyncio.timeout(60):
                await host.start()
                if records:
                    await host.settle(records)
        finally:
            await host.stop()

    asyncio.run(main())


@pytest.mark.parametrize("link", LINKS)
def test_each_item_comes_with_its_own_record_through_decoding_bisection_and_retries(
    link: Maker, tmp_path: Path
) -> None:
    bad = {3: "raise", 9: "reject", 12: "raise", 13: "nan"}
    records = [told(n, sub=n % 3, do=bad.get(n, "well")) for n in range(16)]
    records[5].data = b"no JSON"
    records[1].partition_key, records[2].partition_key, records[4].partition_key = None, "", "\ud800 half"
    lived(link, records, closed=str(tmp_path / "closed"))
    dead = {n for n, each in enumerate(records) if isinstance(each.outcome, Dead)}
    assert dead == {3, 5, 9, 12}
    for n in set(range(16)) - dead - {13}:
        each = records[n]
        assert value(each, "n") == n
        assert value(each, "id") == each.record_id("events") == f"events/{SHARD}/{100 + n}/{n % 3}"
        assert (value(each, "shard"), value(each, "key")) == (SHARD, ascii(each.partition_key))
        assert datetime.fromisoformat(value(each, "at")) == datetime.fromtimestamp((AT_MS + n) / 1000, UTC)


def test_so_it_does_on_the_replica_after_one_that_was_killed_and_only_that_one_is_closed(tmp_path: Path) -> None:
    records = [told(n, do="be killed" if n == 1 else "well") for n in range(3)]
    lived(ReplicaProcess, records, closed=str(tmp_path / "closed"))
    assert [value(records[n], "id") for n in (0, 2)] == [records[n].record_id("events") for n in (0, 2)]
    assert isinstance(records[1].outcome, Dead)
    assert (tmp_path / "closed").read_text() == "closed\n"


def test_nothing_is_sent_to_a_model_that_does_not_ask() -> None:
    sent: list[type] = []

    class Overheard(FakeReplica):
        async def ask(self, op: str, payloads: Any, timeout_s: float) -> Any:
            sent.extend(type(payload) for payload in payloads)
            return await super().ask(op, payloads, timeout_s)

    lived(Overheard, [told(1), told(2)], "Toy")
    assert sent == [bytes, bytes]


@pytest.mark.parametrize(
    ("link", "end"),
    [
        (ReplicaProcess, ""),
        (ReplicaProcess, "lose device"),
        (FakeReplica, ""),
        (FakeReplica, "lose device"),
        (FakeReplica, "leave"),
    ],
)
def test_a_model_is_closed_once_when_its_replica_ends_in_good_order(
    link: Maker, end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        lived(link, [told(1)], closed=str(tmp_path / "closed"), end=end)
    assert (tmp_path / "closed").read_text() == "closed\n"
    assert ("the model's close() failed" in caplog.text) is bool(end)


def test_an_end_takes_no_longer_than_the_close_may(tmp_path: Path) -> None:
    began = time.monotonic()
    lived(ReplicaProcess, [], closed=str(tmp_path / "closed"), end="stop python")
    assert (tmp_path / "closed").read_text() == "closed\n"
    assert time.monotonic() - began < 8 + CLOSE_S
