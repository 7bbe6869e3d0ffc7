"""A world in which everything that can go wrong with the application does, as a seed decides.

The application is production's own, from KCL's lines to the calls of the store. The fakes around it ship with the
product.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from consumer.leases.leases import as_kcl_has_it
from consumer.testing import FakeLease, FakeLeases, FakeStream, Throttled
from consumer.testing.fake_stream import FIRST_SEQUENCE
from pipeline.errors import UserError
from pipeline.record import Position
from pipeline.stores.base import Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.names import STAGED, SUSPECTS
from pipeline.testing import Process, Simulation, Vanished
from tests.simulation.app_downstream import Downstream, no_answer, throttled
from tests.simulation.app_producer import DAY_MS, FIRST_MS, Producer
from tests.simulation.app_promises import Promises
from tests.simulation.app_settings import LETTERS, TABLE, Settings
from tests.simulation.app_task import Late, Parts, Task
from tests.simulation.app_weather import Weather

STORM_S = 18.0
CALM_S = 400.0
"""Simulated seconds within which everything must be finished after the last fault."""

FAILOVER_S = 4.0


class Bad(AssertionError):
    """A promise is broken."""


@dataclass
class World:
    """``parts``: production's, or those of a mutant."""

    seed: int
    parts: Parts = field(default_factory=Parts)
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.calm = False
        self.weather = Weather.drawn(self.random)
        self.settings = Settings.drawn(self.random)
        self.slow_s = self.random.choice([0.0, 0.0, 0.2, 1.0])
        self.simulation = Simulation(self.latency)
        self.stream = FakeStream(self.random.randint(1, 3))
        self.stream.before = self._throttle
        self.leases = FakeLeases(self.stream, lambda: self.simulation.now, failover_s=FAILOVER_S)
        self.leases.before = self._throttle
        self.leases.after = self._throttle
        self.table, self.letters, self.notes = MemoryStore(), MemoryStore(), MemoryStore()
        self.staged = MemoryStore()
        self.promises = Promises(self.stream, self.settings, self.notes)
        self.leases.on_checkpoint = self._checkpointed
        self.dead_until = self.deaf_until = 0.0
        self.wrong_s = 0.0
        self.producer = Producer(self, felling=self.random.random() < 0.1)
        self.slots = self.random.randint(1, 3)
        self.tasks: list[Task] = []
        self.numbers = 0

    def run(self) -> None:
        """Run the seed, then let healthy workers finish, and check every promise."""
        before = random.getstate()
        random.seed(self.seed)  # the jitter of production's own back-offs
        try:
            self._storm()
            self._calm()
        finally:
            self.simulation.close()
            random.setstate(before)

    # -- what the tasks see

    def latency(self) -> float:
        return self.random.choice((0.0, 0.0, 0.0, 0.003, 0.01, 0.05))

    def store_for(self, task: Task, url: str) -> MemoryStore:
        store, written = {
            TABLE: (self.table, self.promises.file_written),
            LETTERS: (self.letters, self.promises.letters_written),
            f"{LETTERS}{STAGED}": (self.staged, _unseen),
            f"{LETTERS}{SUSPECTS}": (self.notes, _unseen),
        }[url]
        return self._store_for(task, store, written)

    def wall_clock(self) -> datetime:
        return datetime.fromtimestamp(FIRST_MS / 1000 + self.simulation.now + self.wrong_s, UTC)

    def downstream_for(self, task: Task) -> Downstream:
        return Downstream(
            partial(self._put_begins, task),
            partial(self._put_ends, task),
            self.promises.row_sent,
            lambda: 0.0 if self.calm else self.weather.throttled,
            self.random,
        )

    def _store_for(self, task: Task, store: MemoryStore, written: Callable[[str, bytes], None]) -> MemoryStore:
        """The same objects, on a separate connection."""
        own = MemoryStore()
        own.objects = store.objects
        own.before = partial(self._call_begins, task)
        own.after = partial(self._call_ends, task, store, written)
        return own

    # -- faults in calls

    def _call_begins(self, task: Task, operation: str, key: str) -> None:
        if operation == "put" and key.startswith("dt=") and key.endswith(".parquet"):
            self.promises.put_by(task, key)
        task.process.pause(self.latency() + self.random.random() * self.slow_s)
        self._crash_in_call(task.process, operation, key)
        if not self.calm and (
            self.simulation.now < self.dead_until or self.random.random() < self.weather.unanswered / 2
        ):
            raise Retryable(f"no answer before {operation}")

    def _call_ends(
        self, task: Task, store: MemoryStore, written: Callable[[str, bytes], None], operation: str, key: str
    ) -> None:
        if operation == "put":
            if store is not self.notes:
                # What is staged is named by chance: the history is the same each time.
                self.say("dead letters are staged" if store is self.staged else f"{key} is there")
            written(key, store.objects[key][0])
        task.process.pause(self.latency())
        self._crash_in_call(task.process, operation, key)
        if not self.calm and self.random.random() < self.weather.unanswered / 2:
            raise Retryable(f"no answer after {operation}")

    def _put_begins(self, task: Task) -> None:
        task.process.pause(self.latency() + self.random.random() * self.slow_s)
        self._crash_in_call(task.process, "put_records", "downstream/")
        if not self.calm and self.simulation.now < self.deaf_until:
            raise no_answer()
        if not self.calm and self.random.random() < self.weather.throttled / 2:
            raise throttled()

    def _put_ends(self, task: Task) -> None:
        task.process.pause(self.latency())
        self._crash_in_call(task.process, "put_records", "downstream/")
        if not self.calm and self.random.random() < self.weather.unanswered / 2:
            raise no_answer()

    def _crash_in_call(self, process: Process, operation: str, key: str) -> None:
        if not self.calm and self.random.random() < self.weather.crash_in_call:
            self.say(f"a crash in {operation} below {key.rpartition('/')[0]}")
            process.kill()
            raise Vanished

    def _throttle(self, operation: str, shard_id: str) -> None:
        if not self.calm and self.random.random() < self.weather.throttled / 2:
            raise Throttled(operation)

    def _checkpointed(self, lease: FakeLease, position: Position | str) -> None:
        self.say(f"{lease.owner} checkpoints {lease.shard_id} at {_short(position)}")
        self.promises.checkpointed(lease, position)

    def say(self, what: str) -> None:
        self.history.append(f"{self.simulation.now:6.2f} {what}")

    # -- what happens

    def _storm(self) -> None:
        self.producer.produce()
        for _ in range(self.slots):
            self._start()
        self._each(self.random.uniform(0.5, 4.0), self.producer.produce)
        self._each(2.5, self._keep_up)
        self._each(1.3, self._look)
        weather = self.weather
        for rate, act in (
            (weather.crash, self._crash),
            (weather.freeze, self._freeze),
            (weather.sigterm, self._sigterm),
            (weather.reshard, self._reshard),
            (weather.hand_off, self._hand_off),
            (weather.outage, self._outage),
            (0.05, self._clock_jump),
        ):
            if rate:
                self._sometimes(rate, act)
        self._until(STORM_S)

    def _calm(self) -> None:
        self.calm, self.wrong_s = True, 0.0
        self.say("calm")
        if self.random.random() < 0.5:
            for task in self.tasks:
                task.process.kill()
        deadline = self.simulation.now + CALM_S
        while not self._finished():
            if self.simulation.now > deadline:
                left = [f"{lease.shard_id} at {_short(lease.checkpoint)}" for lease in self.leases]
                raise Bad(f"stuck: {', '.join(left)}")
            self._until(self.simulation.now + 1.0)
        self.promises.check(self.table, self.letters)
        if self.promises.broken:
            raise Bad(self.promises.broken)

    def _until(self, when: float) -> None:
        while self.simulation.now < when:
            self.simulation.run(self.simulation.now + 0.5)
            self._mourn()
            if self.simulation.errors:
                raise Bad(f"an event loop complains: {self.simulation.errors[0]}")
            if self.promises.broken:
                raise Bad(self.promises.broken)

    def _finished(self) -> bool:
        for shard_id, shard in self.stream.shards.items():
            lease = next((lease for lease in self.leases if lease.shard_id == shard_id), None)
            if lease is None or (shard.closed and not lease.ended):
                return False
            if not shard.closed and shard.positions and lease.checkpoint != as_kcl_has_it(shard.positions[-1]):
                return False
        return True

    def _each(self, seconds: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self.simulation.after(seconds, again)

        self.simulation.after(seconds, again)

    def _sometimes(self, rate: float, act: Callable[[], None]) -> None:
        def again() -> None:
            if not self.calm:
                act()
                self.simulation.after(self.random.expovariate(rate), again)

        self.simulation.after(self.random.expovariate(rate), again)

    def _look(self) -> None:
        self.promises.look(self._alive())

    # -- tasks

    def _start(self) -> None:
        self.numbers += 1
        name = f"worker-{self.numbers}"

        async def main(process: Process) -> None:
            task = Task(self, process, name)
            self.tasks.append(task)
            await task.main()

        self.say(f"{name} starts")
        self.simulation.start(main, monotonic=self.random.uniform(0, 1e6))

    def _alive(self) -> list[Task]:
        return [task for task in self.tasks if task.process.alive and not task.process.ended]

    def _keep_up(self) -> None:
        """A supervisor, which starts a new task when one is missing."""
        for _ in range(self.slots - len(self._alive())):
            self._start()

    def _mourn(self) -> None:
        """Check that a task that has ended by itself had a good reason."""
        for task in [task for task in self.tasks if task.process.ended or not task.process.alive]:
            self.tasks.remove(task)
            main = task.process.main
            error = main.exception() if main is not None and main.done() and not main.cancelled() else None
            self.say(f"{task.name} is gone: {'killed' if not task.process.ended else error!r}")
            if error is not None and not isinstance(error, UserError | Late | Retryable):
                raise Bad(f"{task.name} ended: {error!r}")

    def _any(self) -> Task | None:
        alive = self._alive()
        return self.random.choice(alive) if alive else None

    def _crash(self) -> None:
        if task := self._any():
            turns = self.random.choice([0, 1, 5, 20])
            self.say(f"{task.name} is killed in {turns} turns")
            task.process.kill(turns)

    def _freeze(self) -> None:
        if task := self._any():
            seconds = self.random.choice([1.0, FAILOVER_S * 1.5, FAILOVER_S * 4])
            self.say(f"{task.name} is frozen for {seconds} s")
            task.process.freeze(seconds)

    def _sigterm(self, task: Task | None = None) -> None:
        if task := task or self._any():
            self.say(f"{task.name} is told to leave")
            if task.worker is not None and self.random.random() < 0.5:
                task.worker.takes = False
            task.process.loop.call_soon(task.leaving.set)

    def _hand_off(self) -> None:
        if (task := self._any()) and task.worker is not None and task.worker.children:
            shard_id = self.random.choice(list(task.worker.children))
            self.say(f"{task.name} hands {shard_id} off")
            task.worker.hand_off(shard_id)

    def _outage(self) -> None:
        until = self.simulation.now + self.random.choice([2.0, 10.0, 30.0])
        if self.settings.downstream and self.random.random() < 0.5:
            self.deaf_until = until
            self.say(f"downstream is dead until {until:.1f}")
        else:
            self.dead_until = until
            self.say(f"the store is dead until {until:.1f}")

    def _clock_jump(self) -> None:
        self.wrong_s = self.random.choice([0.0, -3600.0, 1.5, DAY_MS / 1000, -40 * DAY_MS / 1000])
        self.say(f"the wall clock is wrong by {self.wrong_s} s")

    # -- the stream

    def _reshard(self) -> None:
        """Ask a task to leave now and then, while there is much to read."""
        shards = self.stream.open_shards
        if len(self.stream.shards) > 5:
            return
        one, *others = self.random.sample(shards, len(shards))
        if self.random.random() < 0.6:
            for _ in range(6):
                self.producer.put(one)
            self.simulation.after(self.random.uniform(0.0, 1.2), partial(self._dismiss, one))
        if others and self.random.random() < 0.5:
            self.say(f"{one} and {others[0]} become {self.stream.merge(one, others[0])}")
        else:
            self.say(f"{one} becomes {', '.join(self.stream.split(one))}")

    def _dismiss(self, shard_id: str) -> None:
        lease = next((lease for lease in self.leases if lease.shard_id == shard_id), None)
        for task in self._alive():
            if lease is not None and task.name == lease.owner:
                self._sigterm(task)


def _short(position: Position | str | None) -> str:
    return f"{position.sequence - FIRST_SEQUENCE}/{position.sub}" if isinstance(position, Position) else f"{position}"


def _unseen(key: str, body: bytes) -> None:
    """Written, without a promise about it."""
