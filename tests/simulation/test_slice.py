"""The application reads a slice that ends, with all faults at once: each record of the slice once, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from consumer.aws.shards import KnownShard
from consumer.kcl.bounded import ShardSlice, Slice
from consumer.kcl.session import ShardSession
from consumer.leases import bounded
from pipeline.record import Position, Record
from pipeline.testing import Process
from tests.simulation.app_producer import FIRST_MS
from tests.simulation.app_promises import Promises, _id
from tests.simulation.app_task import Parts, Task
from tests.simulation.app_world import STORM_S, World
from tests.simulation.seeds import seeds

SEEDS, CHUNKS, MUTANT_SEEDS = 60, 4, 60

LOOK_S = 1.0

Bounds = Callable[[Slice, str], ShardSlice]


class SlicePromises(Promises):
    """Only records of the slice may become rows or dead letters. A status may be withheld for ever."""

    def __init__(self, world: SliceWorld) -> None:
        super().__init__(world.stream, world.settings, world.notes)
        self._world = world
        self._outside: set[str] = set()

    def produced(self, shard_id: str, positions: Sequence[Position], kinds: Sequence[str]) -> None:
        """Records that have just arrived."""
        if self._world.bounds.from_ms <= self._world.now_ms < self._world.bounds.to_ms:
            super().produced(shard_id, positions, kinds)
        else:
            self._outside |= {_id(shard_id, position) for position in positions}

    def look(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            if task.stage is not None and task.worker is not None and not task.process.frozen:
                self._bounds(task)

    def _missing(self, record_id: str) -> str:
        return "" if record_id in self._outside else super()._missing(record_id)


class SliceWorld(World):
    """Tasks leave when every shard has passed the slice; a supervisor starts others, which find nothing to do."""

    def __init__(self, seed: int, sliced: Bounds = ShardSlice) -> None:
        super().__init__(seed)
        begin, length = self.random.uniform(0, STORM_S / 2), self.random.uniform(1, STORM_S)
        self.bounds = Slice(FIRST_MS + int(1000 * begin), FIRST_MS + int(1000 * (begin + length)))
        self.marked: set[str] = set()
        self.parts = replace(self.parts, session=self._session_of(self.parts, sliced))
        self.promises = SlicePromises(self)
        put = self.stream.put_record

        def put_now(shard_id: str, data: bytes, holds: int = 1, *, arrived_ms: int, key: str | None = "key") -> Any:
            return put(shard_id, data, holds, arrived_ms=self.now_ms, key=key)

        self.stream.put_record = put_now  # type: ignore[method-assign]

    @property
    def now_ms(self) -> int:
        return FIRST_MS + int(self.simulation.now * 1000)

    def _session_of(self, parts: Parts, sliced: Bounds) -> type[ShardSession]:
        world, base = self, parts.session

        class Sliced(base):  # type: ignore[misc,valid-type]
            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(
                    *given,
                    **named,
                    bounds=lambda shard_id: sliced(world.bounds, shard_id),
                    now=lambda: world.now_ms / 1000,
                )

        return Sliced

    def _start(self) -> None:
        self.numbers += 1
        name = f"worker-{self.numbers}"

        async def main(process: Process) -> None:
            task = Task(self, process, name)
            self.tasks.append(task)
            watching = asyncio.create_task(self._watch(task))
            try:
                await task.main()
            finally:
                watching.cancel()

        self.say(f"{name} starts")
        self.simulation.start(main, monotonic=self.random.uniform(0, 1e6))

    async def _watch(self, task: Task) -> None:
        while self._left():
            await asyncio.sleep(LOOK_S)
            self.marked |= {session.shard_id for session in task.sessions if session.passed}
        task.leaving.set()

    def _left(self) -> list[str]:
        to_ms = self.bounds.to_ms
        leases = {
            lease.shard_id: {
                "checkpoint": {"S": "SHARD_END" if lease.ended else ""},
                **({bounded.MARK: {"N": str(to_ms)}} if lease.shard_id in self.marked else {}),
            }
            for lease in self.leases
        }
        return bounded.left(self._known(), leases, to_ms)

    def _known(self) -> dict[str, KnownShard]:
        return {shard_id: KnownShard(shard_id, shard.parents) for shard_id, shard in self.stream.shards.items()}

    def _finished(self) -> bool:
        return not self._left()


def live(seed: int) -> None:
    world = SliceWorld(seed)
    try:
        world.run()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}\n" + "\n".join(world.history)) from error


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_each_record_of_the_slice_once_and_no_other(chunk: int) -> None:
    for seed in seeds(SEEDS, chunk, CHUNKS):
        live(seed)


class EndsWithThePage(ShardSlice):
    """Stops at the first empty page."""

    def take(self, records: Sequence[Record], behind_ms: int | None, now_ms: float) -> Sequence[Record]:
        taken = super().take(records, behind_ms, now_ms)
        self.beyond = self.beyond or (behind_ms == 0 and not records)
        return taken


class TakesWhatFollows(ShardSlice):
    """Takes the whole page in which the slice ends."""

    def take(self, records: Sequence[Record], behind_ms: int | None, now_ms: float) -> Sequence[Record]:
        return records if super().take(records, behind_ms, now_ms) else ()


@pytest.mark.parametrize("mutant", [EndsWithThePage, TakesWhatFollows])
def test_a_broken_end_is_found_out(mutant: Bounds) -> None:
    def bad(seed: int) -> bool:
        try:
            SliceWorld(seed, mutant).run()
        except AssertionError:
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))


def test_a_shard_that_is_passed_too_early_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the end, with nothing of it checkpointed yet."""
    monkeypatch.setattr(ShardSession, "passed", property(lambda session: session._beyond))

    def bad(seed: int) -> bool:
        try:
            SliceWorld(seed).run()
        except AssertionError:
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))
