"""Which record is blamed for the deaths of tasks, and which never is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from pipeline.errors import Fatal
from pipeline.events import DeadLettered
from pipeline.record import Dead, Record
from pipeline.replicas.crash_journal import SWITCHES
from pipeline.replicas.journaled_host import JournaledHost
from tests.support.journaled_tasks import DAY_MS, OTHER, SHARD, TASKS, Life, Model, TaskDied, record
from tests.support.settled_records import MORNING_MS


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
