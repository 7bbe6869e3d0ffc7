"""Records that kill whole tasks are found after a few tasks, and no other record is blamed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from pipeline.errors import Fatal
from pipeline.events import DeadLettered, ModelEvent
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.replicas.bisection import Bisection
from pipeline.replicas.crash_journal import ENDED, SWITCHES, CrashJournal
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.stores.base import Denied, Retryable
from pipeline.stores.calls import SureCalls
from pipeline.stores.memory import MemoryStore
from tests.support.settled_records import MORNING_MS, Inline

SHARD = Shard("events", 1_700_000_000, "shardId-000000000000")
OTHER = Shard("events", 1_700_000_000, "shardId-000000000001")
DAY_MS = 24 * 60 * 60 * 1000
TASKS = 16


class TaskDied(BaseException):
    """The whole task is dead: nothing runs after this, as after a SIGKILL."""


class Model:
    """Kills the task for some records, and its replica for others."""

    slots = 1
    measures = False
    safe_cost = 0

    def __init__(self, deadly: set[str], notes: CrashJournal, killers: frozenset[str] = frozenset()) -> None:
        self.deadly = deadly
        self.killers = killers
        self.notes = notes
        self.tried: list[list[str]] = []

    async def measure(self, records: Sequence[Record]) -> None:
        return

    async def settle(self, records: Sequence[Record]) -> None:
        """A short version of the host: a batch that kills its replica is noted, then tried one by one."""
        bisection, opened = Bisection(records, 1), []
        while tried := bisection.next():
            self.tried.append([record.sequence for record in tried])
            if any(record.sequence in self.deadly for record in tried):
                raise TaskDied
            if any(record.sequence in self.killers for record in tried):
                if len(tried) > 1:
                    opened.append(await self.notes.begin(tried))
                if (attempts := bisection.died()) is not None:
                    tried[0].outcome = Dead(b"", "replica killed by signal 11", "", attempts, "died")
                continue
            bisection.passed()
            for record in tried:
                record.outcome = Enriched(table=None, row=0)
        for note in opened:
            await note.end()


def record(sequence: int, shard: Shard = SHARD, ms: int = MORNING_MS) -> Record:
    return Record(shard.shard_id, b"payload", "key", str(sequence), 0, ms)


class Life:
    """A stream's records, read by one task after the other until all are settled."""

    def __init__(self, records: list[Record], deadly: set[str], **given: frozenset[str]) -> None:
        self.records = records
        self.deadly = deadly
        self.given = given
        self.store = MemoryStore()
        self.died = 0
        self.events: list[ModelEvent] = []
        self.last: Model | None = None
        self.model = Model

    def notes(self) -> CrashJournal:
        async def switches(shard_id: str) -> int:
            return self.died

        quick = SureCalls(Inline(), Outages().part("suspects"), sleep=lambda s: asyncio.sleep(0))
        today = datetime.fromtimestamp(max(r.arrived_ms for r in self.records) / 1000, UTC).date()
        return CrashJournal(self.store, quick, switches=switches, today=lambda: today)

    async def task(self, batch: int) -> None:
        """Read everything again, because nothing was checkpointed; die of it or settle all of it."""
        notes = self.notes()
        model = self.last = self.model(self.deadly, notes, **self.given)
        judge = JournaledHost(model, notes, retries=1, on_event=self.events.append)
        for shard in (SHARD, OTHER):
            if own := [r for r in self.records if r.shard_id == shard.shard_id]:
                await judge.recall(shard, own[0])
        for start in range(0, len(self.records), batch):
            await judge.settle(self.records[start : start + batch])

    def run(self, batch: int = 8) -> None:
        for _ in range(TASKS):
            for each in self.records:
                each.outcome = None
            try:
                asyncio.run(self.task(batch))
            except TaskDied:
                self.died += 1
            else:
                return
        raise AssertionError(f"{self.died} tasks died and the records still kill")

    def dead(self) -> set[str]:
        return {each.sequence for each in self.records if isinstance(each.outcome, Dead)}


def test_a_record_that_kills_every_task_is_a_dead_letter_after_a_few_and_alone() -> None:
    life = Life([record(n) for n in range(40)], {"13"})
    life.run()
    assert life.dead() == {"13"}
    # two to be in doubt, one to note its batch, three in which it was alone
    assert life.died == SWITCHES + 1 + 3
    outcome = life.records[13].outcome
    assert isinstance(outcome, Dead)
    assert outcome.reason == "3 tasks died while this record was alone in the model"
    assert (outcome.kind, outcome.attempts, outcome.payload) == ("died", 3, b"payload")
    assert life.events == [DeadLettered("died")]


@pytest.mark.parametrize("seed", range(60))
def test_no_healthy_record_is_blamed_for_any_cause_of_deaths(seed: int) -> None:
    dice = random.Random(seed)
    shards = [SHARD, OTHER]
    records = [record(n, dice.choice(shards), MORNING_MS + n * dice.choice([0, DAY_MS // 4])) for n in range(30)]
    deadly = {str(n) for n in dice.sample(range(30), dice.randint(0, 2))}
    killers = frozenset(str(n) for n in dice.sample(range(30), dice.randint(0, 2))) - deadly
    life = Life(records, deadly, killers=killers)
    life.run(batch=dice.randint(1, 12))
    assert life.dead() == deadly | killers
    assert life.died <= SWITCHES + 6 * len(deadly)


def test_records_beside_a_killer_are_not_blamed() -> None:
    """Batches of one record each, settled two at a time, like a model host with two slots."""

    class AtOnce(Life):
        async def task(self, batch: int) -> None:
            notes = self.notes()
            model = Slow(self.deadly, notes)
            judge = JournaledHost(model, notes, retries=1, on_event=self.events.append)
            for shard in (SHARD, OTHER):
                await judge.recall(shard, next(r for r in self.records if r.shard_id == shard.shard_id))
            pairs = zip(self.records[::2], self.records[1::2], strict=True)
            for one, other in pairs:
                await asyncio.gather(judge.settle([one]), judge.settle([other]))

    class Slow(Model):
        async def settle(self, records: Sequence[Record]) -> None:
            await asyncio.sleep(0)
            await super().settle(records)
            await asyncio.sleep(0.01)

    life = AtOnce([record(n, OTHER if n % 2 else SHARD) for n in range(8)], {"3"})
    life.run()
    assert life.dead() == {"3"}


def test_no_record_is_tried_beside_one_that_is_tried_alone() -> None:
    inside: list[set[str]] = []

    class Watching(Model):
        async def settle(self, records: Sequence[Record]) -> None:
            inside.append({each.sequence for each in records} | (inside[-1] if self.busy else set()))
            self.busy += 1
            await asyncio.sleep(0.001)
            self.busy -= 1

        busy = 0

    life = Life([record(n) for n in range(6)], set())

    async def main() -> None:
        first = life.notes()
        await first.recall(SHARD, life.records[0])
        await first.begin([life.records[2]])  # and dies
        notes = life.notes()
        judge = JournaledHost(Watching(set(), notes), notes, retries=1, on_event=life.events.append)
        await judge.recall(SHARD, life.records[0])
        batches = [life.records[:2], life.records[2:3], life.records[3:]]
        await asyncio.gather(*(judge.settle(batch) for batch in batches))

    asyncio.run(main())
    assert {"2"} in inside
    assert not any("2" in together and len(together) > 1 for together in inside)


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


def test_doubt_ends_when_the_shard_gets_on_and_suspicion_does_not() -> None:
    life = Life([record(n) for n in range(4)], set())

    async def main() -> None:
        life.died = SWITCHES
        first = life.notes()
        await first.recall(SHARD, life.records[0])
        await first.begin([life.records[2]])  # and dies
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        assert notes.in_doubt(life.records[0])
        assert [notes.deaths(each) for each in life.records] == [None, None, 1, None]
        notes.trust(SHARD.shard_id)
        assert not notes.in_doubt(life.records[0])
        assert notes.deaths(life.records[2]) == 1

    asyncio.run(main())


def test_a_task_that_gives_up_has_not_died_of_the_record_it_had() -> None:
    life = Life([record(n) for n in range(4)], set())

    class GivesUp(Model):
        async def settle(self, records: Sequence[Record]) -> None:
            raise Fatal("the device is lost")

    async def main() -> None:
        life.died = SWITCHES
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        judge = JournaledHost(GivesUp(set(), notes), notes, retries=1, on_event=life.events.append)
        with pytest.raises(Fatal, match="the device is lost"):
            await judge.settle(life.records)
        again = life.notes()
        await again.recall(SHARD, life.records[0])
        assert [again.deaths(each) for each in life.records] == [None] * 4

    asyncio.run(main())


def test_a_task_that_was_asked_to_leave_and_is_killed_later_has_not_died_of_a_record() -> None:
    life = Life([record(n) for n in range(4)], set())

    async def main() -> None:
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        await notes.begin([life.records[1]])
        await notes.leave()
        await notes.begin([life.records[2]])
        again = life.notes()
        await again.recall(SHARD, life.records[0])
        assert [again.deaths(each) for each in life.records] == [None] * 4

    asyncio.run(main())


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


@pytest.mark.parametrize(("changes", "needed"), [(0, 3), (6, 3), (7, 4), (8, 5), (9, 6), (80, 6)])
def test_deaths_of_other_causes_raise_the_number_that_blames_a_record(changes: int, needed: int) -> None:
    """Six changes of owner are explained: two until doubt, one to note the batch, three with the record alone."""
    life = Life([record(n) for n in range(4)], set())

    async def main() -> None:
        for _ in range(3):
            first = life.notes()
            await first.recall(SHARD, life.records[0])
            await first.begin([life.records[2]])  # and dies
        life.died = changes
        notes = life.notes()
        await notes.recall(SHARD, life.records[0])
        assert notes.needed(life.records[2], 3) == needed

    asyncio.run(main())


def test_kills_from_outside_seldom_blame_a_healthy_record() -> None:
    """Tasks are killed at random while nearly every one of them has suspects to try, each alone."""
    blamed = sum(_stormy(seed) for seed in range(100))
    assert blamed <= 1  # by two deaths alone, it would be 11


def _stormy(seed: int) -> int:
    """How many healthy records a storm of kills makes dead letters."""
    dice = random.Random(seed)
    life = Life([record(n) for n in range(16)], set())

    class Killed(Model):
        async def settle(self, records: Sequence[Record]) -> None:
            if dice.random() < 0.2:
                raise TaskDied
            await super().settle(records)

    life.model = Killed
    for _ in range(TASKS):
        for each in life.records:
            each.outcome = None
        try:
            asyncio.run(life.task(batch=4))
        except TaskDied:
            life.died += 1
        else:
            break
    return len(life.dead())


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


async def soon(seconds: float) -> None:
    await asyncio.sleep(0)


async def none(shard_id: str) -> int:
    return 0
