"""The notes of the crash journal: when they are written, found and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from pipeline.errors import Fatal
from pipeline.outages import Outages
from pipeline.replicas.crash_journal import ENDED, CrashJournal
from pipeline.stores.base import Denied, Retryable
from pipeline.stores.calls import SureCalls
from tests.support.journaled_tasks import DAY_MS, OTHER, SHARD, Life, none, record, soon
from tests.support.settled_records import MORNING_MS, Inline


def test_a_batch_of_two_shards_has_no_record_alone() -> None:
    life = Life([record(0, SHARD), record(1, OTHER)], {"1"})
    life.run(batch=2)
    assert life.dead() == {"1"}
    alone = [body for body, _ in life.store.objects.values() if b'"alone":true' in body]
    assert alone and all(b'[["1",0]]' in body or b'[["0",0]]' in body for body in alone)
    shared = [body for body, _ in life.store.objects.values() if b'"alone":false' in body]
    assert len(shared) == 2


def test_notes_are_found_by_a_machine_whose_clock_is_behind() -> None:
    life = Life([record(n, ms=MORNING_MS + n * DAY_MS // 4) for n in range(8)], {"5"})
    notes = life.notes()
    notes._today = lambda: datetime.fromtimestamp((MORNING_MS - DAY_MS) / 1000, UTC).date()

    async def work() -> int | None:
        await notes.recall(SHARD, life.records[0])
        await notes.begin([life.records[5]])
        await notes.recall(SHARD, life.records[0])
        return notes.deaths(life.records[5])

    assert asyncio.run(work()) == 1


def test_notes_are_found_when_arrival_times_go_back_over_midnight() -> None:
    life = Life([record(0, ms=MORNING_MS), record(1, ms=MORNING_MS - 1)], {"1"})
    life.run(batch=1)
    assert life.dead() == {"1"}


def test_a_healthy_stream_costs_no_note() -> None:
    life = Life([record(n) for n in range(40)], set())
    life.run()
    assert life.store.objects == {}


def test_a_killed_replica_is_noted_and_crossed_off() -> None:
    life = Life([record(n) for n in range(8)], set(), killers=frozenset({"3"}))
    life.run()
    [note, ended] = sorted(life.store.objects)
    assert ended == f"{note}{ENDED}"
    assert note.startswith(f"dt=2026-11-18/{SHARD.stream_created_s}-{SHARD.shard_id}/{'0'.zfill(56)}-000000-")
    assert life.dead() == {"3"}


def test_a_note_that_is_written_while_the_task_is_asked_to_leave_is_ended_too() -> None:
    life = Life([record(n) for n in range(4)], set())

    async def main() -> None:
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        begun = asyncio.create_task(notes.begin([life.records[1]]))
        await asyncio.sleep(0)
        await notes.leave()
        await begun
        assert any(life.store.objects)
        again = life.notes()
        await again.recall(SHARD, life.records[0])
        assert again.deaths(life.records[1]) is None

    asyncio.run(main())


def test_a_drain_continues_if_a_note_cannot_be_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def body(life: Life, notes: CrashJournal) -> None:
        clock = iter(range(0, 10**6, 30))
        notes._surely = SureCalls(Inline(), Outages(lambda: next(clock)).part("suspects"), sleep=soon)
        await notes.begin(life.records)
        life.store.before = denied
        await notes.leave()

    played(body)
    assert "notes of this task were not ended: 403" in caplog.text


def denied(operation: str, key: str) -> None:
    raise Denied("403")


def test_notes_of_records_before_the_first_unread_one_are_of_no_concern() -> None:
    life = Life([record(n) for n in range(4)], set())

    async def main() -> None:
        first = life.notes()
        await first.recall(SHARD, life.records[0])
        await first.begin([life.records[1]])
        notes = life.notes()
        await notes.recall(SHARD, life.records[2])
        assert not notes.in_doubt(life.records[2])
        assert notes.deaths(life.records[1]) is None

    asyncio.run(main())


def refusing(times: int) -> Callable[[str, str], None]:
    left = [times]

    def fault(operation: str, key: str) -> None:
        if left[0]:
            left[0] -= 1
            raise Retryable("503")

    return fault


def played(body: Callable[[Life, CrashJournal], Awaitable[None]]) -> None:
    life = Life([record(0)], set())

    async def main() -> None:
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        await body(life, notes)

    asyncio.run(main())


def test_nothing_is_tried_before_its_note_is_written() -> None:
    async def body(life: Life, notes: CrashJournal) -> None:
        life.store.before = refusing(3)
        note = await notes.begin(life.records)
        assert len(life.store.objects) == 1
        life.store.after = refusing(2)  # written, and the answer lost
        await note.end()
        assert len(life.store.objects) == 2

    played(body)


def test_a_store_that_never_takes_a_note_ends_the_task_with_its_reason() -> None:
    async def body(life: Life, notes: CrashJournal) -> None:
        clock = [0.0]
        part = Outages(lambda: clock[0]).part("suspects", give_up_after_s=100)

        async def sleep(seconds: float) -> None:
            clock[0] += seconds

        impatient = CrashJournal(life.store, SureCalls(Inline(), part, sleep=sleep), switches=none)
        life.store.before = refusing(10**6)
        with pytest.raises(Fatal, match="without an answer: 503"):
            await impatient.recall(SHARD, life.records[0])

    played(body)
