"""Dead letters without a Parquet sink: each exactly once, for any earlier writer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from pipeline.errors import UserError
from pipeline.record import Dead, Position, Record
from pipeline.sinks.dead_letters import DeadLetterSink
from pipeline.stores.base import Retryable
from pipeline.stores.memory import MemoryStore
from tests.support.settled_records import SCHEMA, SHARD, Told, record, run

DEAD = (2, 3, 6)


def sequences(store: MemoryStore) -> list[int]:
    bodies = [store.objects[key][0] for key in sorted(store.objects)]
    return [int(orjson.loads(line)["sequence_number"]) for body in bodies for line in body.splitlines()]


async def deliver(store: MemoryStore, stretches: Sequence[Sequence[int]]) -> Told:
    """One worker that passes on these runs, each made durable before the next."""
    sink, told = DeadLetterSink(store, SCHEMA), Told()
    writer = sink.open(SHARD, told.durable.append, told.fatal.append)
    assert await writer.resume(record(stretches[0][0]), None) is None
    for stretch in stretches:
        writer.write(run(*(record(number, dead=number in DEAD) for number in stretch)))
        await writer.flush()
        assert told.end == stretch[-1] and not told.fatal
    await sink.close()
    return told


@pytest.mark.parametrize("before", [[[1, 2]], [[1, 2, 3]], [[1, 2], [3, 4]], [[2], [3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6]]])
@pytest.mark.parametrize("start", [1, 2, 3, 4])
def test_a_replay_writes_only_the_letters_that_are_missing(before: list[list[int]], start: int) -> None:
    store = MemoryStore()
    asyncio.run(deliver(store, before))
    asyncio.run(deliver(store, [range(start, 4), range(4, 9)] if start < 4 else [range(4, 9)]))
    held = {number for stretch in before for number in stretch} | set(range(start, 9))
    assert sequences(store) == [number for number in DEAD if number in held]


def test_no_dead_record_no_request() -> None:
    store = MemoryStore()
    asked: list[str] = []
    store.before = lambda operation, key: asked.append(operation)
    asyncio.run(deliver(store, [[4], [5]]))
    assert asked == []


def test_of_an_aggregate_any_letters_may_be_there_before() -> None:
    def aggregate(*dead: int) -> list[Record]:
        return [record(1, sub=sub, whole=sub == 3, dead=sub in dead) for sub in range(4)]

    async def work(store: MemoryStore, *dead: int) -> None:
        sink, told = DeadLetterSink(store, SCHEMA), Told()
        writer = sink.open(SHARD, told.durable.append, told.fatal.append)
        writer.write(run(*aggregate(*dead)))
        await writer.flush()
        assert told.durable == [Position(1, 3)]
        await sink.close()

    store = MemoryStore()
    asyncio.run(work(store, 1, 2))
    asyncio.run(work(store, 0, 1, 3))
    subs = [
        orjson.loads(line)["sub_sequence_number"] for body, _ in store.objects.values() for line in body.splitlines()
    ]
    assert sorted(subs) == [0, 1, 2, 3]


def test_text_that_is_not_unicode_still_makes_a_letter() -> None:
    async def work(store: MemoryStore) -> None:
        sink, told = DeadLetterSink(store, SCHEMA), Told()
        writer = sink.open(SHARD, told.durable.append, told.fatal.append)
        bad = record(1, dead=True)
        bad.outcome = Dead(b"\xff\x00", "bad \ud800 text", "", 1)
        writer.write(run(bad))
        await writer.flush()
        await sink.close()

    store = MemoryStore()
    asyncio.run(work(store))
    (body, _), *_ = store.objects.values()
    letter = orjson.loads(body)
    assert letter["payload_base64"] == "/wA=" and letter["reason"] == "bad ? text"


def test_the_check_is_the_stores() -> None:
    store = MemoryStore()

    def silent(operation: str, key: str) -> None:
        raise Retryable("no answer")

    store.before = silent
    waits: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    with pytest.raises(UserError, match="no answer"):
        asyncio.run(DeadLetterSink(store, SCHEMA, sleep=sleep).check())
    assert sum(waits) > 5
